"""`python -m bridge.mqtt`"""

import uvloop

from bridge.mqtt.app import serve
from bridge.mqtt.settings import MqttSettings
from runtime import logs
from runtime.errors import FatalError
from runtime.lifecycle import die
from runtime.settings import load_or_exit

if __name__ == "__main__":
    settings = load_or_exit(MqttSettings)
    logs.configure("bridge", settings.log_format, settings.log_level)
    try:
        uvloop.run(serve(settings))
    except FatalError as error:
        die(error, "start")
