"""`python -m sinks`: Kafka to ClickHouse, each row exactly once."""

from runtime.program import main
from sinks.app import serve
from sinks.settings import SinkSettings

if __name__ == "__main__":
    main("sink", SinkSettings, serve)
