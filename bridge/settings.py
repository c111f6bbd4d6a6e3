"""Settings of what every bridge shares: how rows become Kafka records, and how much may be held."""

from dataclasses import dataclass

from bridge.core.intake import Limits
from runtime.settings import setting


@dataclass(frozen=True)
class WriterSettings:
    """Part of a bridge's settings; bridge.writer reads it."""

    linger_ms: int = setting(100, doc="longest time that a row waits for its batch, milliseconds", low=1, high=5_000)
    record_rows: int = setting(1_000, doc="rows per partition at which a group closes early", low=1, high=100_000)
    group_bytes: int = setting(4 << 20, doc="bytes at which a group closes early", low=1 << 16, high=256 << 20)
    record_bytes: int = setting(900_000, doc="most bytes of rows in one Kafka record", low=10_000, high=1_500_000)
    payload_bytes: int = setting(1_500_000, doc="longest payload kept whole", low=1_024, high=1_500_000)
    budget_bytes: int = setting(64 << 20, doc="most bytes held before reading pauses", low=1 << 20, high=4 << 30)
    drain_s: float = setting(10.0, doc="longest wait for Kafka at a stop, seconds", low=0, high=300)

    def limits(self, partitions: int) -> Limits:
        return Limits(
            group_rows=self.record_rows * partitions,
            group_bytes=self.group_bytes,
            record_bytes=self.record_bytes,
            payload_bytes=self.payload_bytes,
            budget_bytes=self.budget_bytes,
        )
