"""`python -m monitoring.watch`: gauges of what no service can tell of itself."""

import asyncio

from monitoring.watch.app import serve
from monitoring.watch.settings import WatchSettings
from runtime.logs import configure
from runtime.settings import load_or_exit


def main() -> None:
    settings = load_or_exit(WatchSettings)
    configure("watch", settings.log_format, settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
