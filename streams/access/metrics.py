"""Metrics of the access stage, beside those of every stage (runtime/stage/metrics.py)."""

from prometheus_client import Counter, Histogram

from runtime.probes import DELAY_BUCKETS_S
from schemas.vocabulary import Verdict
from streams.access.core.state import Seen

MESSAGES = Counter("millrace_access_messages_total", "messages processed, by verdict", ["verdict"])
REFUSED = Counter("millrace_access_refused_total", "messages denied or dead-lettered, by the rule they broke", ["rule"])
for _rule in ("ahead", "age"):  # shown from the start, so that the first device with a wrong clock is a rise
    REFUSED.labels(_rule)
READINGS = Counter("millrace_access_readings_total", "readings of accepted messages")
MISSING = Counter("millrace_access_missing_total", "missing seq numbers: messages lost before they reached the bridge")
REPLAYED = Counter("millrace_access_replayed_total", "messages that were replays of denied or dead-lettered ones")
EVENTS = Counter("millrace_access_events_total", "event rows: accepted messages outside of telemetry, and connects")
UNREADABLE = Counter("millrace_access_untold_total", "platform rows (connects, disconnects) that could not be read")
FALLBACKS = Counter(
    "millrace_access_decode_fallbacks_total", "records decoded message by message because the batch path failed"
)
DELAY = Histogram(
    "millrace_access_delay_seconds",
    "from the bridge's receipt of a record's last message to its verdict",
    buckets=DELAY_BUCKETS_S,
)

_BY_COUNT = {
    "accepted": MESSAGES.labels(Verdict.ACCEPTED.name.lower()),
    "denied": MESSAGES.labels(Verdict.DENIED.name.lower()),
    "dead_letters": MESSAGES.labels(Verdict.DEAD_LETTER.name.lower()),
    "duplicates": MESSAGES.labels(Verdict.DUPLICATE.name.lower()),
    "readings": READINGS,
    "missing": MISSING,
    "replayed": REPLAYED,
    "events": EVENTS,
}
"""Field of Counts -> its counter."""


def observe(seen: Seen, now_s: float) -> None:
    """Count one data record."""
    for name, counter in _BY_COUNT.items():
        if count := getattr(seen.counts, name):
            counter.inc(count)
    UNREADABLE.inc(seen.unreadable)
    FALLBACKS.inc(seen.fallback)
    for rule, count in seen.rules.items():
        REFUSED.labels(rule).inc(count)
    if seen.received_ms:
        DELAY.observe(max(0.0, now_s - seen.received_ms / 1000))
