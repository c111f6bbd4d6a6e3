"""`python -m bridge.relay`"""

from bridge.relay.app import serve
from bridge.relay.settings import RelaySettings
from runtime.program import main

if __name__ == "__main__":
    main("relay", RelaySettings, serve)
