"""Where a backup is taken from and restored to."""

from dataclasses import dataclass

from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings, setting


@dataclass(frozen=True)
class BackupSettings(KafkaSettings, ClickHouseSettings):
    """Where Kafka and ClickHouse are."""

    sink_group: str = setting("millrace-sink", doc="Kafka consumer group of the sinks")
