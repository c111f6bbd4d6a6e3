"""`python -m sinks`: Kafka to ClickHouse, each row exactly once."""

import asyncio

from runtime.logs import configure
from runtime.settings import load_or_exit
from sinks.app import serve
from sinks.settings import SinkSettings


def main() -> None:
    settings = load_or_exit(SinkSettings)
    configure("sink", settings.log_format, settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
