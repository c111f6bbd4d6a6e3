"""Settings of a stage's worker: what every stage needs; a stage with more of its own inherits."""

from dataclasses import dataclass

from runtime.settings import KafkaSettings, ServiceSettings, setting


@dataclass(frozen=True)
class StageSettings(ServiceSettings, KafkaSettings):
    """What the frame needs to run a stage."""

    snapshot_interval_s: float = setting(
        10.0,
        doc="seconds between snapshots; after kill -9 the records of this time are applied again",
        low=0.1,
        high=3600,
    )
    snapshot_bytes_per_s: int = setting(
        4 << 20,
        doc="bytes of snapshots written per second, on average; large states lengthen the interval",
        low=64 << 10,
        high=1 << 30,
    )
    session_timeout_s: float = setting(
        10.0, doc="session timeout in seconds, after which Kafka reassigns a worker's partitions", low=6, high=300
    )
    static_membership: bool = setting(
        True,
        doc="keep this instance's partitions for it through a restart (needs a unique MILLRACE_INSTANCE); false: leave"
        " the group at a stop, so that others take over at once",
    )
    fetch_partition_bytes: int = setting(
        4 << 20, doc="bytes fetched of a partition at once", low=64 << 10, high=256 << 20
    )
    buffer_records: int = setting(16, doc="records fetched ahead of the current one", low=1, high=10_000)
