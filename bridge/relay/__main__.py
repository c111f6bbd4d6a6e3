"""`python -m bridge.relay`"""

import asyncio

from bridge.relay.app import serve
from bridge.relay.settings import RelaySettings
from runtime import logs
from runtime.errors import FatalError
from runtime.lifecycle import die
from runtime.settings import load_or_exit

if __name__ == "__main__":
    settings = load_or_exit(RelaySettings)
    logs.configure("relay", settings.log_format, settings.log_level)
    try:
        asyncio.run(serve(settings))
    except FatalError as error:
        die(error, "start")
