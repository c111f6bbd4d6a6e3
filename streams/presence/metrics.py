"""Metrics of the presence stage, beside those of every stage (runtime/stage/metrics.py); gauges of devices, of those
online and of those held are `millrace_stage_state_items{stage="presence"}`."""

from prometheus_client import Counter

from streams.presence.core.devices import Is, Why
from streams.presence.core.rows import Changes

CHANGES = Counter("millrace_presence_changes_total", "changes written, by new state and reason", ["state", "reason"])
KEPT_BACK = Counter("millrace_presence_kept_back_total", "changes suppressed by damping, counted with the next row")
REFUSED = Counter("millrace_presence_refused_total", "rules and registry records in band that could not be read")

_BY_REASON = {
    (state, why): CHANGES.labels(state.name.lower(), why.name.lower())
    for why in Why
    for state in (Is.OFFLINE, Is.ONLINE)
    if (state is Is.ONLINE) == (why in (Why.TELEMETRY, Why.CONNECTED))
}


def observe(changes: Changes | None, refused: int) -> None:
    """Count one record: the changes it caused, and whether it was refused."""
    REFUSED.inc(refused)
    if changes is None:
        return
    KEPT_BACK.inc(int(changes.flaps.sum()))
    for why in Why:
        count = int((changes.why == why).sum())
        if count:
            state = Is.ONLINE if why in (Why.TELEMETRY, Why.CONNECTED) else Is.OFFLINE
            _BY_REASON[state, why].inc(count)
