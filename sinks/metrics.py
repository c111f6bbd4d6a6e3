"""What the sink tells Prometheus."""

import threading
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.probes import DELAY_BUCKETS_S

ROWS: Final = Counter("millrace_sink_rows", "Rows that ClickHouse acknowledged", ["table"])
BYTES: Final = Counter("millrace_sink_bytes", "Bytes of Kafka values whose ranges are stored and committed", ["topic"])
RECORDS: Final = Counter("millrace_sink_records", "Kafka records whose ranges are stored and committed", ["topic"])
REPEATS: Final = Counter("millrace_sink_repeats", "Kafka records dropped as repeats of their raw record", ["topic"])
SKIPPED: Final = Counter("millrace_sink_skipped_records", "Unreadable Kafka records skipped by order", ["topic"])
INSERT_SECONDS: Final = Histogram(
    "millrace_sink_insert_seconds", "Duration of one insert, retries included", ["table"], buckets=DELAY_BUCKETS_S
)
CHECKED: Final = Counter(
    "millrace_sink_checked_inserts", "Inserts that checked which rows were stored already", ["table"]
)
RETRIES: Final = Counter(
    "millrace_sink_retries", "Retried inserts, because ClickHouse was down, slow or overloaded", ["table"]
)
COMMIT_SECONDS: Final = Histogram(
    "millrace_sink_commit_seconds", "Duration of one Kafka commit", buckets=DELAY_BUCKETS_S
)
LAG: Final = Gauge("millrace_sink_lag_records", "Records of the log not yet committed", ["topic", "partition"])
BUFFERED: Final = Gauge("millrace_sink_buffered_bytes", "Bytes of Kafka values held in memory")
PAUSED: Final = Gauge("millrace_sink_paused_partitions", "Partitions paused because ClickHouse is slower than Kafka")
ASSIGNED: Final = Gauge("millrace_sink_assigned_partitions", "Partitions of all topics that this process reads")
DELAY_SECONDS: Final = Histogram(
    "millrace_sink_delay_seconds",
    "From Kafka's append of the first record of a range that contains rows until the whole range can be queried",
    ["topic"],
    buckets=DELAY_BUCKETS_S,
)
DELAYS: Final = {
    "readings": (
        "millrace_sink_device_to_queryable_seconds",
        "From receipt by the bridge until a reading can be queried",
    ),
    "anomalies": (
        "millrace_sink_anomaly_to_queryable_seconds",
        "From receipt of a reading by the bridge until an anomaly in it can be queried",
    ),
}
"""Table -> name and meaning of the histogram of its rows' delays; the histograms are made when the sink begins."""


class DelayHistogram(Collector):
    """A histogram that takes an array at once: observing one row at a time would cost more than writing it."""

    def __init__(self, name: str, meaning: str, bounds_s: Iterable[float] = DELAY_BUCKETS_S) -> None:
        self.name, self.meaning = name, meaning
        self.bounds_s = np.array(sorted(bounds_s))
        self._counts = np.zeros(len(self.bounds_s) + 1, np.int64)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def observe(self, delays_s: NDArray[np.float64]) -> None:
        counts = np.bincount(np.searchsorted(self.bounds_s, delays_s), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum_s += float(delays_s.sum())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            total, sum_s = np.cumsum(self._counts).tolist(), self._sum_s
        family = HistogramMetricFamily(self.name, self.meaning)
        bounds = [*(str(float(b)) for b in self.bounds_s), "+Inf"]
        family.add_metric([], list(zip(bounds, total, strict=True)), sum_s)
        yield family


def delay_histograms(registry: CollectorRegistry = REGISTRY) -> dict[str, DelayHistogram]:
    """DELAYS, by table."""
    found = {table: DelayHistogram(name, meaning) for table, (name, meaning) in DELAYS.items()}
    for histogram in found.values():
        registry.register(histogram)
    return found
