"""The verdict on every message of a batch.

Of the rules that a message breaks the first in this order counts:
    duplicate     its (boot, seq), or the row it replays, was there before, whatever became of it
    dead letter   id of the device, topic, what the decoder says, a time that no table can hold, replay_of
    dead letter   seq_closed, old_boot
    denied        topic (forged), unknown_device or role, channel, bytes; then of its readings child, metric, limit,
                  age, ahead, and of each of these the first reading; at last rate, which counts only what would pass
    dead letter   too_large: the answer would not fit into one record

`judge` changes nothing but the table of devices, which may hold one too many without harm: what is to be remembered is
in the plans and is stored by `State` when the answer is complete.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.arrays import extent, positions, sizes
from runtime.columns.grouped import Grouped
from runtime.columns.spans import milliseconds
from runtime.columns.types import Bool, Bytes, Int32, Int64
from schemas.topics import is_device_id
from schemas.vocabulary import Quality, Verdict
from streams.access.core import buckets, sequence
from streams.access.core.replays import Origin
from streams.access.core.replays import parse as parse_replay
from streams.access.core.rules import DENY, NO_ROLE, Rules
from streams.access.core.runs import Fresh
from streams.access.core.topics import NO_CHANNEL, Topics
from streams.access.core.topics import parse as parse_topics
from streams.access.decode import Decoded

if TYPE_CHECKING:
    from streams.access.core.state import State

MIN_TIME_MS: Final = -2_208_988_800_000
MAX_TIME_MS: Final = 10_413_791_999_999
"""1900-01-01 to the end of 2299: what ClickHouse's DateTime64(3) holds."""
MAX_ANSWER_BYTES: Final = 14 << 20
"""Of the 16 MB that a record of telemetry.readings may have."""
READING_BYTES: Final = 100
"""Columns of one reading in the answer, rounded up, without its text and replay_of."""
ROW_BYTES: Final = 512
"""Columns, reason and dictionary entries of one message that is not accepted, rounded up, without its own bytes."""
_ACCEPTED: Final = int(Verdict.ACCEPTED)
"""numpy takes five times as long to compare with the enum."""
_OWN: Final = ("device", "payload", "topic", "content_type", "ts")
"""Columns that a message brings into the answer when it is not accepted."""
_MAX_NAME_BYTES: Final = 260
"""Of a metric: four names of 64 bytes and the dots between them."""
_MAX_RECEIVED_MS: Final = 1 << 50
"""Receive times beyond it (the year 37000) count as it: microseconds of it add up without overflow."""


@dataclass(slots=True)
class Judged:
    """`ids`: the device column as a dictionary, `verdict` of each row, `reason` of those denied or dead, `keep`: which
    readings are of accepted rows, None for all, `quality` of each reading, and what is to be remembered."""

    ids: Any
    topics: Topics
    decoded: Decoded
    verdict: Bytes
    reason: dict[int, str]
    keep: Bool | None
    quality: Bytes
    sequences: sequence.Plan
    buckets: buckets.Plan
    replayed: list[tuple[Origin, int]]


@dataclass(slots=True)
class _Case:
    """A batch on trial. `replayed`: which rows are replays, None when there are none; `dead` and `denied`: the first
    reason of each row."""

    state: "State"
    batch: Any
    device: Int32
    topics: Topics
    decoded: Decoded
    received_ms: Int64
    role: Int32
    rules: Rules
    replayed: Bool | None
    groups: Grouped | None = None
    dead: dict[int, str] = field(default_factory=dict)
    denied: dict[int, str] = field(default_factory=dict)

    def name(self, row: int) -> str:
        found: str = self.batch.column("device")[row].as_py()
        return found

    def grouped(self, rows: Any) -> Grouped:
        """These rows by device."""
        if len(rows) < len(self.device):
            return Grouped(self.device[rows])
        if self.groups is None:
            self.groups = Grouped(self.device)
        return self.groups


def judge(state: "State", batch: Any) -> Judged:
    """`batch`: schemas.raw.SCHEMA, at least one row, none of the platform's own."""
    ids = batch.column("device").dictionary_encode()
    device = state.numbers(ids.dictionary).take(ids.indices.to_numpy())
    topics = parse_topics(batch.column("device"), batch.column("topic"))
    telemetry = topics.channel != NO_CHANNEL
    decoded = state.decoder.decode(batch, None if telemetry.all() else telemetry)
    received_ms = milliseconds(batch.column("received_at"))
    column = batch.column("replay_of")
    replayed = None if column.null_count == len(column) else column.is_valid().to_numpy(zero_copy_only=False)
    case = _Case(state, batch, device, topics, decoded, received_ms, state.roles(device), state.rules, replayed)
    replays = _dead(case)
    _denied_messages(case)
    quality = _denied_readings(case)
    known, repeat = _repeats(case, replays)
    passing = _settle_rate(case, repeat)
    verdict, reason = _verdicts(case, repeat)
    keep = _keep(verdict, decoded.row)
    if _too_large(case, verdict, reason, keep):
        keep = _keep(verdict, decoded.row)
    return Judged(ids, topics, decoded, verdict, reason, keep, quality, known, passing, [r for _, r in replays])


def _dead(case: _Case) -> list[tuple[int, tuple[Origin, int]]]:
    """Fills `dead`; gives (row, what it replays) of the replayed rows."""
    for row in positions(case.device < 0).tolist():
        if not is_device_id(case.name(row)):
            case.dead[row] = f"topic: device id {case.name(row)[:80]!r} does not match [a-z0-9-]{{1,64}}"
    for found in (case.topics.wrong, case.decoded.dead):
        for row, reason in found.items():
            case.dead.setdefault(row, reason)
    _impossible_times(case)
    replays = []
    if case.replayed is not None:
        column = case.batch.column("replay_of")
        for row in positions(case.replayed).tolist():
            origin = parse_replay(column[row].as_py())
            if origin is None:
                case.dead.setdefault(row, f"replay_of: {column[row].as_py()[:80]!r} names no row")
            else:
                replays.append((row, origin))
    return replays


def _impossible_times(case: _Case) -> None:
    times = case.decoded.time_ms
    if len(times) and (times.min() < MIN_TIME_MS or times.max() > MAX_TIME_MS):
        for at in positions((times < MIN_TIME_MS) | (times > MAX_TIME_MS)).tolist():
            reason = f"ts: {int(times[at])} ms is before 1900 or after 2299"
            case.dead.setdefault(int(case.decoded.row[at]), reason)


def _denied_messages(case: _Case) -> None:
    denied, rules = case.denied, case.rules
    for row, uplink in case.topics.forged.items():
        denied[row] = f"topic: names device {uplink.device!r}, published by {case.name(row)!r}"
    for row in positions(case.role == NO_ROLE).tolist():
        denied.setdefault(row, case.state.why_no_role(int(case.device[row])))
    _denied_channels(case)
    lengths, allowed = sizes(case.batch.column("payload")), rules.bytes.take(case.role)
    for row in positions(lengths > allowed).tolist():
        denied.setdefault(row, f"bytes: {int(lengths[row])}, the role allows {int(allowed[row])}")


def _denied_channels(case: _Case) -> None:
    topics, rules = case.topics, case.rules
    allowed = rules.channels(topics)
    if allowed.size:
        may = allowed.take(case.role * len(topics.words) + topics.channel, mode="wrap")  # NO_ROLE finds the last row
        for row in positions(~may & (topics.channel != NO_CHANNEL)).tolist():
            word = topics.words[topics.channel[row]]
            case.denied.setdefault(row, f"channel: {_role(case, row)} may not publish telemetry/{word}")
    for row, uplink in topics.other.items():
        if not rules.may(int(case.role[row]), uplink.branch, uplink.names):
            topic = "/".join((uplink.branch, *uplink.names))
            case.denied.setdefault(row, f"channel: {_role(case, row)} may not publish {topic}")


def _role(case: _Case, row: int) -> str:
    return f"role {case.rules.names[case.role[row]]}" if case.role[row] != NO_ROLE else "no role"


def _denied_readings(case: _Case) -> Bytes:
    """Checks readings one kind of rule after the other; gives the quality of each."""
    decoded, rules = case.decoded, case.rules
    row, value = decoded.row, decoded.value
    quality: Bytes = np.zeros(len(row), np.uint8)
    if not len(row):
        return quality
    role = case.role.take(row)
    if decoded.child is not None:
        role = _children(case, role)
    rule = rules.metrics(role, decoded)
    _deny(case, rule == DENY, lambda at: f"metric: {decoded.names[int(decoded.metric[at])][:120]}")
    low, high = rules.low.take(rule), rules.high.take(rule)
    below, above = value < low, value > high
    outside = below | above
    if outside.any():
        quality[below], quality[above] = Quality.BELOW_RANGE, Quality.ABOVE_RANGE
        _deny(case, outside & rules.refuse[rule], lambda at: _limit(case, at, float(low[at]), float(high[at])))
    if decoded.timed:
        _ages(case, role)
    return quality


def _deny(case: _Case, bad: Bool, why: Any) -> None:
    """Deny the messages of these readings, each for its first one."""
    for at in positions(bad).tolist():
        row = int(case.decoded.row[at])
        if row not in case.denied:
            case.denied[row] = why(at)


def _limit(case: _Case, at: int, low: float, high: float) -> str:
    metric = case.decoded.names[int(case.decoded.metric[at])]
    return f"limit: {metric[:120]} is {case.decoded.value[at]:g}, allowed are {low:g} to {high:g}"


def _ages(case: _Case, role: Int32) -> None:
    decoded, rules = case.decoded, case.rules
    age = case.received_ms.take(decoded.row) - decoded.time_ms
    if age.max() <= rules.age_ms.min() and -age.min() <= rules.ahead_ms.min():
        return
    for rule, behind, limit in (("age", age, rules.age_ms), ("ahead", -age, rules.ahead_ms)):
        _deny(case, behind > limit[role], lambda at, r=rule, b=behind, m=limit: _age(r, b[at], m[role[at]]))


def _age(rule: str, behind_ms: Any, limit_ms: Any) -> str:
    when = "older than" if rule == "age" else "ahead of"
    return f"{rule}: {int(behind_ms) / 1000:.3f} s {when} its receipt, the role allows {int(limit_ms) // 1000} s"


def _children(case: _Case, role: Int32) -> Int32:
    """Denies readings of children that are not the publisher's; gives the role that each reading falls under."""
    state, decoded, topics = case.state, case.decoded, case.topics
    child = decoded.child
    assert child is not None
    numbers = np.append(state.devices.find(pa.array(decoded.children, pa.string())), -1)[child]
    named = child >= 0
    parent = np.where(numbers >= 0, state.registry.parent[numbers], -1)
    own = named & (numbers >= 0) & (parent == case.device[decoded.row])
    _deny(
        case,
        named & ~own,
        lambda at: f"child: {decoded.children[int(child[at])]!r} is not registered under the publisher",
    )
    found: Int32 = np.where(own, state.roles(numbers), np.where(named, NO_ROLE, role))
    _deny(case, own & (found == NO_ROLE), lambda at: f"child: {state.why_no_role(int(numbers[at]))}")
    may = case.rules.channels(topics)[found, topics.channel[decoded.row]]
    _deny(case, own & ~may, lambda at: f"child: the role of {decoded.children[int(child[at])]!r} may not publish here")
    return found


def _repeats(case: _Case, replays: list[tuple[int, tuple[Origin, int]]]) -> tuple[sequence.Plan, Bool]:
    """(what is to be remembered of seqs, which rows are repeats). Adds seq_closed and old_boot to `dead`."""
    boot, seq = case.decoded.boot, case.decoded.seq
    asked = (case.device >= 0) & (boot >= 0) & (seq >= 0)
    repeat = np.zeros(len(boot), bool)
    if case.replayed is not None:
        asked &= ~case.replayed
        for (row, _), first in zip(replays, case.state.replays.plan([origin for _, origin in replays]), strict=True):
            repeat[row] = not first
    rows = positions(asked)
    plan = case.state.sequences.plan(case.grouped(rows), boot[rows], seq[rows])
    if plan.fresh.any():
        repeat[rows[plan.fresh == Fresh.REPEAT]] = True
        for at in positions(plan.fresh > Fresh.REPEAT).tolist():
            case.dead.setdefault(int(rows[at]), _late(Fresh(plan.fresh[at]), int(boot[rows[at]]), int(seq[rows[at]])))
    return plan, repeat


def _late(fresh: Fresh, boot: int, seq: int) -> str:
    if fresh is Fresh.OLD_BOOT:
        return f"old_boot: boot {boot} is older than the boots remembered"
    return f"seq_closed: seq {seq} of boot {boot} came after its gap was given up"


def _settle_rate(case: _Case, repeat: Bool) -> buckets.Plan:
    """Counts what would pass; denies what is above the rate. Replayed rows are the platform's own and cost nothing."""
    interval = case.rules.interval_us.take(case.role)
    asked = (interval > 0) & ~repeat
    if case.replayed is not None:
        asked &= ~case.replayed
    for found in (case.dead, case.denied):
        if found:
            asked[list(found)] = False
    rows = positions(asked)
    now_us = np.minimum(np.maximum(case.received_ms[rows], -_MAX_RECEIVED_MS), _MAX_RECEIVED_MS) * 1000
    burst = case.rules.burst_us.take(case.role[rows])
    plan = case.state.buckets.plan(case.grouped(rows), now_us, interval[rows], burst)
    for row in rows[~plan.passes].tolist():
        case.denied[row] = f"rate: more than {case.rules.rate_of(int(case.role[row]))}"
    return plan


def _verdicts(case: _Case, repeat: Bool) -> tuple[Bytes, dict[int, str]]:
    verdict: Bytes = np.zeros(len(case.device), np.uint8)
    reason = case.denied | case.dead
    if reason:
        verdict[list(case.denied)] = Verdict.DENIED
        verdict[list(case.dead)] = Verdict.DEAD_LETTER
    if repeat.any():
        verdict[repeat] = Verdict.DUPLICATE
        for row in positions(repeat).tolist():
            reason.pop(row, None)
    return verdict, reason


def _keep(verdict: Bytes, row: Int32) -> Bool | None:
    return (verdict == _ACCEPTED).take(row) if verdict.any() else None


def _too_large(case: _Case, verdict: Bytes, reason: dict[int, str], keep: Bool | None) -> bool:
    """Make dead letters of accepted messages, in order, until the answer fits. Nothing else may block a partition."""
    if case.replayed is None and _at_most_bytes(case) < MAX_ANSWER_BYTES:
        return False
    own = _own_bytes(case.batch)
    room = MAX_ANSWER_BYTES - int(own.sum()) - sum(map(len, case.decoded.names[case.decoded.known :]))
    readings = _reading_bytes(case, keep)
    if int(readings.sum()) <= room:
        return False
    for row in positions(readings).tolist():
        room -= int(readings[row])
        if room < 0:
            room += int(readings[row])
            verdict[row] = Verdict.DEAD_LETTER
            reason[row] = f"too_large: its readings need {int(readings[row])} bytes, more than the record has left"
    return True


def _at_most_bytes(case: _Case) -> int:
    """What the answer cannot exceed, quickly."""
    texts = 0 if case.decoded.text is None else extent(case.decoded.text)
    each = len(case.device) * ROW_BYTES + len(case.decoded.row) * (READING_BYTES + _MAX_NAME_BYTES)
    return each + texts + int(case.batch.get_total_buffer_size())


def _own_bytes(batch: Any) -> Int64:
    """Bytes that each row needs when it is not accepted: what it came with."""
    total = np.full(len(batch), ROW_BYTES, np.int64)
    for name in _OWN:
        column = batch.column(name)
        if column.null_count < len(column):
            total += sizes(column)
    return total


def _reading_bytes(case: _Case, keep: Bool | None) -> Int64:
    decoded = case.decoded
    rows = len(case.device)
    row = decoded.row if keep is None else decoded.row[keep]
    each = np.full(rows, READING_BYTES, np.int64)
    if case.replayed is not None:
        each += sizes(case.batch.column("replay_of"))
    total: Int64 = np.bincount(row, minlength=rows).astype(np.int64) * each
    if decoded.text is not None:
        lengths = sizes(decoded.text) if keep is None else sizes(decoded.text)[keep]
        total += np.bincount(row, weights=lengths, minlength=rows).astype(np.int64)
    return total
