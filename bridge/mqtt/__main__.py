"""`python -m bridge.mqtt`"""

import uvloop

from bridge.mqtt.app import serve
from bridge.mqtt.settings import MqttSettings
from runtime.program import main

if __name__ == "__main__":
    main("bridge", MqttSettings, serve, uvloop.run)
