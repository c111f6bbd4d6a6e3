"""Metrics of the aggregate stage, beside those of every stage (runtime/stage/metrics.py): how many windows are open is
`millrace_stage_state_items{what="windows"}`."""

from prometheus_client import Counter, Histogram

from runtime.probes import DELAY_BUCKETS_S
from schemas.vocabulary import Kind, Part
from streams.aggregate.core.state import Seen

FOLDED = Counter("millrace_aggregate_folded_total", "readings added to windows")
TEXTS = Counter("millrace_aggregate_texts_total", "text readings, which are not part of any window")
LATE = Counter("millrace_aggregate_late_total", "readings of windows that had been written already")
REFUSED = Counter(
    "millrace_aggregate_refused_total",
    "numeric readings that were refused, so that no window contains them",
    ["reason"],
)
PARTIALS = Counter(
    "millrace_aggregate_partials_total", "partial aggregates written, including those of groups", ["part"]
)
DELAY = Histogram(
    "millrace_aggregate_stream_delay_seconds",
    "how far stream time is behind the clock when a tick has been applied",
    buckets=DELAY_BUCKETS_S,
)
_BY_PART = {part: PARTIALS.labels(part.name.lower()) for part in Part}


def observe(kind: Kind, seen: Seen, time_ms: int, now_s: float) -> None:
    """Count one record. `time_ms`: stream time."""
    FOLDED.inc(seen.folded)
    TEXTS.inc(seen.texts)
    LATE.inc(seen.late)
    for reason, count in seen.refused.items():
        REFUSED.labels(reason).inc(count)
    for part, count in seen.written.items():
        _BY_PART[Part(part)].inc(count)
    if kind is Kind.TICK:
        DELAY.observe(max(0.0, now_s - time_ms / 1000))
