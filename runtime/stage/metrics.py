"""Metrics of the stage frame. Labels: stage; partition where the figure is of one partition."""

from prometheus_client import Counter, Gauge, Histogram

from runtime.probes import DELAY_BUCKETS_S

_APPLY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Buckets, seconds: a record of a thousand rows takes a few milliseconds."""

RECORDS = Counter("millrace_stage_records_total", "source records applied", ["stage", "kind"])
SOURCE_BYTES = Counter("millrace_stage_source_bytes_total", "bytes of the source records applied", ["stage"])
REPEATS = Counter(
    "millrace_stage_repeats_total", "source records dropped: fetched or written again after a restart", ["stage"]
)
OUTPUTS = Counter("millrace_stage_outputs_total", "output records written", ["stage", "topic"])
OUTPUT_BYTES = Counter("millrace_stage_output_bytes_total", "bytes of the output records written", ["stage", "topic"])
KNOWN = Counter(
    "millrace_stage_outputs_known_total",
    "outputs made again that were already there",
    ["stage", "topic"],
)
APPLY = Histogram("millrace_stage_apply_seconds", "time to apply one record", ["stage"], buckets=_APPLY_BUCKETS_S)
LAG = Gauge("millrace_stage_lag_records", "source records not yet applied", ["stage", "partition"])
POSITION = Gauge("millrace_stage_position", "next source offset to apply", ["stage", "partition"])
PARTITIONS = Gauge("millrace_stage_partitions", "partitions this worker holds", ["stage"])
STATE_BYTES = Gauge("millrace_stage_state_bytes", "bytes of state in memory", ["stage", "partition"])
STATE_ITEMS = Gauge("millrace_stage_state_items", "things the state remembers", ["stage", "partition", "what"])
SNAPSHOTS = Counter("millrace_stage_snapshots_total", "snapshots acknowledged by Kafka", ["stage"])
SNAPSHOT_TIME = Gauge(
    "millrace_stage_snapshot_timestamp_seconds",
    "when the last snapshot was stored",
    ["stage", "partition"],
)
SNAPSHOT_BYTES = Gauge("millrace_stage_snapshot_bytes", "bytes of the last snapshot", ["stage", "partition"])
SNAPSHOT_SECONDS = Histogram(
    "millrace_stage_snapshot_seconds", "freeze, encode and write one snapshot", ["stage"], buckets=DELAY_BUCKETS_S
)
FREEZE_SECONDS = Histogram(
    "millrace_stage_freeze_seconds",
    "part of a snapshot that the flow waits for",
    ["stage"],
    buckets=_APPLY_BUCKETS_S,
)
RESTORE_SECONDS = Histogram(
    "millrace_stage_restore_seconds",
    "load the state at a take-over",
    ["stage"],
    buckets=DELAY_BUCKETS_S,
)
REBALANCES = Counter("millrace_stage_rebalances_total", "times partitions were taken over", ["stage"])


def forget(stage: str, partition: int) -> None:
    """Drop the figures of a partition that is no longer ours: another worker shows them."""
    for gauge in (LAG, POSITION, STATE_BYTES, STATE_ITEMS, SNAPSHOT_BYTES, SNAPSHOT_TIME):
        gauge.remove_by_labels({"stage": stage, "partition": str(partition)})
