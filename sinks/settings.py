"""Settings of the sink and of migrations."""

from dataclasses import dataclass

from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings, ServiceSettings, setting
from sinks.core.ranges import Rule


@dataclass(frozen=True)
class MigrationSettings(ClickHouseSettings):
    """How the tables are made."""

    retention_days: int = setting(400, doc="retention of readings and of all tables derived from messages, days", low=1)
    ledger_days: int = setting(1100, doc="retention of the ledger and of hourly windows, days", low=1)
    clickhouse_cluster: str = setting(
        "", doc="name in system.clusters: tables on all its nodes, behind Distributed tables"
    )


@dataclass(frozen=True)
class SinkSettings(KafkaSettings, ServiceSettings, MigrationSettings):
    """Everything `python -m sinks` reads."""

    sink_migrates: bool = setting(True, doc="apply migrations at the start; false: wait for `millrace init`")
    sink_group: str = setting("millrace-sink", doc="Kafka consumer group")
    sink_range_rows: int = setting(50_000, doc="rows at which a range ends", low=1, high=1_000_000)
    sink_range_bytes: int = setting(16 << 20, doc="bytes of Kafka values at which a range ends", low=1)
    sink_range_ms: int = setting(
        1_500, doc="span of Kafka's append time at which a range ends, if no tick ends it earlier, milliseconds", low=10
    )
    sink_idle_ms: int = setting(10_000, doc="the same while the range contains no rows", low=1_000)
    sink_buffer_bytes: int = setting(256 << 20, doc="Kafka values held in memory by all partitions together", low=1)
    sink_writers: int = setting(4, doc="concurrent inserts", low=1, high=64)
    sink_session_ms: int = setting(
        6_000,
        doc="session timeout, after which Kafka reassigns the partitions of a sink that does not respond, milliseconds",
    )

    @property
    def rule(self) -> Rule:
        """Of telemetry.readings: one range a tick. Half of that would cost twice the inserts, 20-40 ms of CPU each.
        Rules of the other topics are made of it (sinks/core/logs.py)."""
        return Rule(self.sink_range_rows, self.sink_range_bytes, self.sink_range_ms, self.sink_idle_ms)
