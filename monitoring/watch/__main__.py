"""`python -m monitoring.watch`: gauges of what no service can report about itself."""

from monitoring.watch.app import serve
from monitoring.watch.settings import WatchSettings
from runtime.program import main

if __name__ == "__main__":
    main("watch", WatchSettings, serve)
