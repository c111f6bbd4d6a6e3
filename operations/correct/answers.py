"""What access of today makes of raw records of the past. Pure.

The state knows the policy and the registry as they stood before the first record, and no message: a repeat of an older
one is taken for new. That does no harm, for only messages that were accepted then are corrected.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from runtime.stage.contract import Record
from runtime.stage.provenance import after
from schemas import headers
from schemas.control import POLICY_KEY, Device, device_key
from schemas.headers import Provenance, Version
from schemas.topics import READINGS
from schemas.vocabulary import Kind
from sinks.core.flow import Range
from sinks.core.logs import LOGS
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, Entry
from streams.access.core.state import State
from streams.access.decode import Decoder

RANGE_ROWS: Final = 50_000
RANGE_BYTES: Final = 16 << 20
_RULE: Final = Rule(RANGE_ROWS, RANGE_BYTES, 0, 0)


@dataclass(frozen=True, slots=True)
class Known:
    """What was in force: a control record as it was relayed."""

    version: Version
    key: str
    value: bytes


def policy(version: Version, text: str) -> Known:
    return Known(version, POLICY_KEY, text.encode())


def device(version: Version, found: Device) -> Known:
    return Known(version, device_key(found.id), found.encode(with_token=False))


def state(epoch: int, partition: int, known: Iterable[Known]) -> State:
    """Access's state before the first record: what was in force, and nothing else."""
    made = State(Decoder())
    for one in sorted(known, key=lambda one: one.version):
        found = headers.table(headers.raw_control(one.version, one.key))
        made.apply(Record(partition, -1, epoch, -1, Kind.CONTROL, found, one.value))
    return made


def ranges(made: State, epoch: int, partition: int, records: Iterable[Arrival]) -> Iterator[Range]:
    """The answers to raw records as ranges of telemetry.readings, for the sink's own plan."""
    held: list[Entry] = []
    rows = size = 0
    for record in records:
        entry = _answer(made, epoch, partition, record)
        if entry is None:
            continue
        held.append(entry)
        rows, size = rows + entry.rows, size + len(entry.value)
        if rows >= RANGE_ROWS or size >= RANGE_BYTES:
            yield _range(epoch, partition, held)
            held, rows, size = [], 0, 0
    if held:
        yield _range(epoch, partition, held)


def _answer(made: State, epoch: int, partition: int, record: Arrival) -> Entry | None:
    """The answer to a data record, as the sink would read it; None to others."""
    found = headers.table(record.headers)
    kind, offset = headers.kind_of(found), record.offset
    (output,) = made.apply(Record(partition, offset, epoch, offset, kind, found, record.value))
    if kind is not Kind.DATA:
        return None
    given = [*output.headers, *Provenance(epoch, offset, offset - 1).encode()]
    read = LOGS[READINGS].reader(epoch, f"telemetry.raw[{partition}] read anew")
    return read(Arrival(offset, record.appended_ms, given, output.value))


def _range(epoch: int, partition: int, held: list[Entry]) -> Range:
    first, end, furthest = held[0].offset, held[-1].offset + 1, after(held[-1].origin)
    return Range(READINGS, epoch, partition, first, end, _RULE, tuple(held), furthest, 0, check=False)
