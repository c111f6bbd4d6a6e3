"""Metrics of the stage frame. Labels: stage; partition where the figure is of one partition."""

from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from runtime.probes import DELAY_BUCKETS_S
from runtime.stage.contract import Record
from runtime.stage.keeper import SnapshotStats

_APPLY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Buckets, seconds: a record of a thousand rows takes a few milliseconds."""

RECORDS = Counter("millrace_stage_records_total", "source records applied", ["stage", "kind"])
SOURCE_BYTES = Counter("millrace_stage_source_bytes_total", "bytes of the source records applied", ["stage"])
ROWS = Counter("millrace_stage_rows_total", "rows of the source records applied", ["stage"])
REPEATS = Counter("millrace_stage_repeats_total", "source records dropped as duplicates after a restart", ["stage"])
REFUSED = Counter(
    "millrace_stage_refused_rows_total",
    "rows left out because the stage raised an exception on them: a bug, see the log",
    ["stage"],
)
SKIPPED = Counter("millrace_stage_skipped_records_total", "source records that an operator skipped", ["stage"])
OUTPUTS = Counter("millrace_stage_outputs_total", "output records written", ["stage", "topic"])
OUTPUT_BYTES = Counter("millrace_stage_output_bytes_total", "bytes of the output records written", ["stage", "topic"])
KNOWN = Counter(
    "millrace_stage_outputs_known_total",
    "outputs recomputed after a restart and already in the topic",
    ["stage", "topic"],
)
APPLY = Histogram("millrace_stage_apply_seconds", "time to apply one record", ["stage"], buckets=_APPLY_BUCKETS_S)
LAG = Gauge("millrace_stage_lag_records", "source records not yet applied", ["stage", "partition"])
POSITION = Gauge("millrace_stage_position", "next source offset to apply", ["stage", "partition"])
PARTITIONS = Gauge("millrace_stage_partitions", "partitions assigned to this worker", ["stage"])
STATE_BYTES = Gauge("millrace_stage_state_bytes", "bytes of state in memory", ["stage", "partition"])
STATE_ITEMS = Gauge("millrace_stage_state_items", "items in the state, by kind", ["stage", "partition", "what"])
SNAPSHOTS = Counter("millrace_stage_snapshots_total", "snapshots acknowledged by Kafka", ["stage"])
SNAPSHOT_TIME = Gauge(
    "millrace_stage_snapshot_timestamp_seconds",
    "when the last snapshot was stored",
    ["stage", "partition"],
)
SNAPSHOT_BYTES = Gauge(
    "millrace_stage_snapshot_bytes", "bytes that the last snapshot wrote (chunks that changed)", ["stage", "partition"]
)
SNAPSHOT_WAIT = Gauge(
    "millrace_stage_snapshot_wait_seconds", "how long the last snapshot paused processing", ["stage", "partition"]
)
SNAPSHOT_WRITTEN = Counter("millrace_stage_snapshot_written_bytes_total", "bytes written by snapshots", ["stage"])
SNAPSHOT_CHUNKS = Counter(
    "millrace_stage_snapshot_chunks_total",
    "chunks of large states that snapshots wrote, or found stored already",
    ["stage", "outcome"],
)
SNAPSHOT_SECONDS = Histogram(
    "millrace_stage_snapshot_seconds", "freeze, encode and write one snapshot", ["stage"], buckets=DELAY_BUCKETS_S
)
FREEZE_SECONDS = Histogram(
    "millrace_stage_freeze_seconds",
    "time for which a snapshot pauses processing",
    ["stage"],
    buckets=_APPLY_BUCKETS_S,
)
RESTORE_SECONDS = Histogram(
    "millrace_stage_restore_seconds",
    "time to load the state of an assigned partition",
    ["stage"],
    buckets=DELAY_BUCKETS_S,
)
REBALANCES = Counter("millrace_stage_rebalances_total", "partitions taken over", ["stage"])


def rows_of(headers: Mapping[str, bytes]) -> int:
    """Rows of a record by its headers: telemetry.readings says how many messages it answers, others `rows`."""
    found = headers.get("rows") or headers.get("received") or b"0"
    return int(found) if found.isdigit() else 0


class StageMetrics:
    """The metrics of one stage, with what happens as their names."""

    def __init__(self, stage: str, outputs: Sequence[str]) -> None:
        self.stage = stage
        self._records = {kind: RECORDS.labels(stage, kind) for kind in ("data", "control", "tick")}
        self._rows = ROWS.labels(stage)
        self._bytes = SOURCE_BYTES.labels(stage)
        self._repeats = REPEATS.labels(stage)
        self._apply = APPLY.labels(stage)
        self._outputs = {topic: OUTPUTS.labels(stage, topic) for topic in outputs}
        self._output_bytes = {topic: OUTPUT_BYTES.labels(stage, topic) for topic in outputs}
        self._known = {topic: KNOWN.labels(stage, topic) for topic in outputs}
        self._refused = REFUSED.labels(stage)
        self._frozen = FREEZE_SECONDS.labels(stage)

    def applied(self, record: Record, took_s: float) -> None:
        self._records[record.kind].inc()
        self._rows.inc(rows_of(record.headers))
        self._bytes.inc(len(record.value))
        self._apply.observe(took_s)

    def repeat(self) -> None:
        self._repeats.inc()

    def refused(self, rows: int) -> None:
        self._refused.inc(rows)

    def skipped(self) -> None:
        SKIPPED.labels(self.stage).inc()

    def written(self, topic: str, size_bytes: int) -> None:
        self._outputs[topic].inc()
        self._output_bytes[topic].inc(size_bytes)

    def known(self, topic: str) -> None:
        self._known[topic].inc()

    def frozen(self, partition: int, waited_s: float) -> None:
        self._frozen.observe(waited_s)
        SNAPSHOT_WAIT.labels(self.stage, partition).set(waited_s)

    def snapshot(self, partition: int, stats: SnapshotStats, took_s: float) -> None:
        SNAPSHOTS.labels(self.stage).inc()
        SNAPSHOT_WRITTEN.labels(self.stage).inc(stats.written_bytes)
        SNAPSHOT_CHUNKS.labels(self.stage, "written").inc(stats.chunks_written)
        SNAPSHOT_CHUNKS.labels(self.stage, "reused").inc(stats.chunks_reused)
        SNAPSHOT_SECONDS.labels(self.stage).observe(took_s)
        SNAPSHOT_BYTES.labels(self.stage, partition).set(stats.written_bytes)
        SNAPSHOT_TIME.labels(self.stage, partition).set_to_current_time()

    def taken_over(self, partitions: int, took_s: float) -> None:
        REBALANCES.labels(self.stage).inc()
        PARTITIONS.labels(self.stage).set(partitions)
        RESTORE_SECONDS.labels(self.stage).observe(took_s)

    def observe(self, partition: int, position: int, end: int | None, sizes: Mapping[str, int]) -> None:
        """`end` of the source, where it is known; `sizes` as the state reports them."""
        POSITION.labels(self.stage, partition).set(position)
        if end is not None:
            LAG.labels(self.stage, partition).set(max(0, end - position))
        for what, size in sizes.items():
            if what == "bytes":
                STATE_BYTES.labels(self.stage, partition).set(size)
            else:
                STATE_ITEMS.labels(self.stage, partition, what).set(size)

    def forget(self, partition: int) -> None:
        """A partition is no longer ours: another worker shows it."""
        for gauge in (LAG, POSITION, STATE_BYTES, STATE_ITEMS, SNAPSHOT_BYTES, SNAPSHOT_WAIT, SNAPSHOT_TIME):
            gauge.remove_by_labels({"stage": self.stage, "partition": str(partition)})
