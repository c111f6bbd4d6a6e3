"""`python -m bridge.http`"""

import uvloop

from bridge.http.app import serve
from bridge.http.settings import HttpSettings
from runtime.program import main

if __name__ == "__main__":
    main("bridge-http", HttpSettings, serve, uvloop.run)
