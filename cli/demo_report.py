"""What the demo shows, asked of ClickHouse and of the fleet's plan. Nothing here is made up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from local.fleet.plan import Expected, Plan
from local.fleet.simulate import Report
from runtime.clickhouse.client import ClickHouse

AROUND_S: Final = 5.0
"""What was received from a second before the kill to so long after the service was ready again is shown apart."""

_DELAY: Final = """
SELECT count(), quantileExact(0.5)(delay), quantileExact(0.99)(delay), max(delay) FROM
(
    SELECT dateDiff('millisecond', received_at, stored_at) AS delay FROM readings
    WHERE received_at >= {since:DateTime64(3)} AND reading_index = 0
        AND (received_at BETWEEN {low:DateTime64(3)} AND {high:DateTime64(3)}) = {around:UInt8}
)"""
_SOME: Final = """
SELECT device, channel, metric, time, round(value, 3), received_at, stored_at FROM readings
WHERE received_at >= {since:DateTime64(3)} ORDER BY cityHash64(device, metric, time) LIMIT 6"""
_HOURLY: Final = """
SELECT toStartOfHour(time) AS hour, count(), round(avg(value), 2), round(min(value), 2), round(max(value), 2)
FROM readings
WHERE received_at >= {since:DateTime64(3)} AND metric = 'temperature' AND channel = 'climate'
GROUP BY hour ORDER BY hour"""
_PARTIALS: Final = """
SELECT count(), sum(count), uniqExact(device, channel, metric) FROM aggregates_1m
WHERE stored_at >= {since:DateTime64(3)}"""
_WINDOWS: Final = """
SELECT window_start, name, metric, count, round(mean, 2), round(min, 2), round(max, 2), round(p50, 2), round(p95, 2)
FROM group_windows_1h
WHERE scope = 'role' AND name = 'temperature-sensor' AND metric = 'temperature' AND window_start >= {from:DateTime64(3)}
ORDER BY window_start LIMIT 6"""
_INCIDENTS: Final = """
SELECT incident, device, metric, detector, opened_at, state, points, explanation FROM incidents_current
WHERE opened_at >= {from:DateTime64(3)} ORDER BY severity DESC, peak_score DESC, incident LIMIT 6"""
_KINDS: Final = """
SELECT detector, count() FROM incidents_current WHERE opened_at >= {from:DateTime64(3)}
GROUP BY detector ORDER BY detector"""
_STRANGE: Final = """
SELECT count(), quantileExact(0.5)(delay), quantileExact(0.99)(delay), max(delay) FROM
(
    SELECT dateDiff('millisecond', received_at, stored_at) AS delay FROM anomalies
    WHERE received_at >= {since:DateTime64(3)} AND value IS NOT NULL
)"""
_PRESENCE: Final = """
SELECT state, reason, count() FROM presence_current GROUP BY state, reason ORDER BY state, reason"""
_DENIED: Final = """
SELECT reason, count() AS n, any(topic) FROM denied WHERE received_at >= {since:DateTime64(3)}
GROUP BY reason ORDER BY n DESC, reason LIMIT 12"""
_DEAD: Final = """
SELECT reason, count() AS n, any(hex(substring(payload, 1, 32))) FROM dead_letters
WHERE received_at >= {since:DateTime64(3)} GROUP BY reason ORDER BY n DESC, reason LIMIT 12"""

Totals = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill -9, and after how many seconds the service was ready again."""

    service: str
    at: datetime
    back_s: float


def sections(db: ClickHouse, since: datetime, plan: Plan, fleet: Report, kill: Kill | None) -> Iterator[str]:
    """The parts of the report in order."""
    yield _throughput(db, since, plan, fleet)
    yield from _delays(db, since, kill)
    asked = {"since": since}
    yield _table(
        "some readings", ("device", "channel", "metric", "time", "value", "received", "stored"), db.rows(_SOME, asked)
    )
    yield _table(
        f"temperature by the hour of the devices' clocks, which ran {plan.workload.factor:.0f} times as fast",
        ("hour", "readings", "mean", "min", "max"),
        db.rows(_HOURLY, asked),
    )
    yield from _thought(db, since, plan)
    yield _table("denied", ("why", "messages", "such as"), db.rows(_DENIED, asked))
    dead = [(why, count, repr(bytes.fromhex(start))[2:-1]) for why, count, start in db.rows(_DEAD, asked)]
    yield _table("dead letters", ("why", "messages", "such as"), dead)


def _thought(db: ClickHouse, since: datetime, plan: Plan) -> Iterator[str]:
    """What the stages behind access made of the readings."""
    asked = {"since": since, "from": datetime.fromtimestamp(plan.workload.start_ms / 1000, UTC)}
    partials, readings, series = db.rows(_PARTIALS, asked)[0]
    yield _table(
        f"windows: {readings:,} readings of {series:,} series in {partials:,} partials of a minute; hours of a role",
        ("hour", "role", "metric", "readings", "mean", "min", "max", "p50", "p95"),
        db.rows(_WINDOWS, asked),
    )
    kinds = ", ".join(f"{name} {count}" for name, count in db.rows(_KINDS, asked)) or "none"
    yield _table(
        f"incidents by detector: {kinds}",
        ("incident", "device", "metric", "detector", "opened", "state", "points", "why"),
        db.rows(_INCIDENTS, asked),
    )
    strange = db.rows(_STRANGE, asked)[0]
    yield "from receipt to anomaly queryable: " + _delay(strange).replace("messages", "readings")
    yield _table("presence", ("state", "because of", "devices"), db.rows(_PRESENCE, asked))


def _throughput(db: ClickHouse, since: datetime, plan: Plan, fleet: Report) -> str:
    rows, seconds = db.rows(
        "SELECT count(), dateDiff('millisecond', min(stored_at), max(stored_at)) / 1000 FROM readings"
        " WHERE received_at >= {since:DateTime64(3)}",
        {"since": since},
    )[0]
    sent = sum(fleet.sent.values())
    return (
        f"\n{len(plan.population.members):,} devices sent {sent:,} messages in {fleet.send_s:.1f} s:"
        f" {sent / fleet.send_s:,.0f} a second ({fleet.cpu_us:.0f} µs CPU each in the fleet);"
        f" all acknowledged {fleet.drain_s:.1f} s later\n"
        f"{rows:,} readings were stored within {seconds:.1f} s: {rows / max(seconds, 0.001):,.0f} a second"
    )


def _delays(db: ClickHouse, since: datetime, kill: Kill | None) -> Iterator[str]:
    """From the receipt at the bridge to the row in ClickHouse."""
    if kill is None:
        low = high = since - timedelta(days=1)
    else:
        low = kill.at - timedelta(seconds=1)
        high = kill.at + timedelta(seconds=kill.back_s + AROUND_S)
    calm = db.rows(_DELAY, {"since": since, "low": low, "high": high, "around": 0})[0]
    yield "from receipt to queryable: " + _delay(calm)
    if kill is not None:
        yield (
            f"{kill.service} was killed with -9 at {kill.at:%H:%M:%S} UTC and was ready again after {kill.back_s:.1f} s"
        )
        rough = db.rows(_DELAY, {"since": since, "low": low, "high": high, "around": 1})[0]
        yield f"  received in those {(high - low).total_seconds():.0f} s: " + _delay(rough)


def _delay(row: Sequence[Any]) -> str:
    messages, p50, p99, most = row
    return f"p50 {p50:,} ms, p99 {p99:,} ms, max {most:,} ms ({messages:,} messages)" if messages else "no message"


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [list(names)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([f"\n{title}", *(text.rstrip() for text in lines)] + ([] if rows else ["  none"]))


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds" if value.microsecond else "seconds")
    return f"{value:,}" if isinstance(value, int) else str(value)


PAIRS: Final = (
    ("received", "messages"),
    ("accepted", "accepted"),
    ("denied", "denied"),
    ("dead_lettered", "dead_letters"),
    ("duplicates", "duplicates"),
)
"""(name in the ledger, name in the plan)."""


def grown(before: Totals, after: Totals) -> dict[str, int]:
    """What was added to the ledger: messages by fate, and `readings`."""
    found = {name: after["messages"][name] - before["messages"][name] for name, _ in PAIRS}
    return found | {"readings": after["readings"]["stored"] - before["readings"]["stored"]}


def fates(expected: Expected, found: Mapping[str, int]) -> str:
    """The plan's numbers beside those of the ledger."""
    lines = [f"\n{'':14}{'planned':>12}{'found':>12}"]
    lines += [f"{name:14}{getattr(expected, planned):12,}{found[name]:12,}" for name, planned in PAIRS]
    return "\n".join([*lines, f"{'readings':14}{expected.readings:12,}{found['readings']:12,}"])


def mistakes(fleet: Report, found: Mapping[str, int], totals: Totals) -> list[str]:
    """What does not fit; empty when all is well. What was delivered more often than planned (a repeat after a break)
    must be a duplicate, one for one."""
    wrong = []
    expected = fleet.expected
    for section in totals:
        if totals[section]["difference"]:
            wrong.append(f"the ledger's difference of {section} is {totals[section]['difference']}")
    if not fleet.complete:
        wrong.append(f"the fleet could not send its plan: {fleet.last_error or fleet.sent}")
    for name, planned in (("accepted", "accepted"), ("denied", "denied"), ("dead_lettered", "dead_letters")):
        if found[name] != getattr(expected, planned):
            wrong.append(f"{name}: planned {getattr(expected, planned)}, found {found[name]}")
    if found["readings"] != expected.readings:
        wrong.append(f"readings: planned {expected.readings}, found {found['readings']}")
    again = found["received"] - expected.messages
    if again < 0 or found["duplicates"] - expected.duplicates != again:
        wrong.append(
            f"{again} messages came more often than planned, but {found['duplicates'] - expected.duplicates} more are"
            " duplicates"
        )
    return wrong
