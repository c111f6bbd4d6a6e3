"""`python -m bridge.http`"""

import uvloop

from bridge.http.app import serve
from bridge.http.settings import HttpSettings
from runtime import logs
from runtime.settings import load_or_exit

if __name__ == "__main__":
    settings = load_or_exit(HttpSettings)
    logs.configure("bridge-http", settings.log_format, settings.log_level)
    uvloop.run(serve(settings))
