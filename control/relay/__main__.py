"""`python -m control.relay`"""

from control.relay.app import serve
from control.relay.settings import RelaySettings
from runtime.program import main

if __name__ == "__main__":
    main("relay", RelaySettings, serve)
