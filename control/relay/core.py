"""What the relay decides, without Kafka or a clock: where a control record goes, and whether ticks may be sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas import headers
from schemas.control import Mark, device_of, former_parents, is_mark, is_relayed, read_device
from schemas.errors import ContractError
from schemas.headers import Headers, Version
from schemas.partition import partition_of
from schemas.topics import is_device_id

MOST_OFF_MS: Final = 5_000
"""A tick further off Kafka's append time than this would move stream time wrongly for everybody: it is withheld."""
_STEP_MS: Final = 1_000
"""A jump of the wall clock against the monotonic one by more than this needs a new proof."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A control record for one partition of telemetry.raw."""

    partition: int
    headers: Headers
    value: bytes


@dataclass(frozen=True, slots=True)
class Routed:
    """What to write for a control record, and what is wrong with it, if anything."""

    records: list[Outgoing]
    broken: str | None = None


class Routing:
    """Which partitions a control record goes to. Without a memory: whose child a device was before is in the header
    `former` of its record, and where that is missing the record goes to every partition.

    `complete_below`: offsets below it are relayed into a telemetry.raw that holds nothing of this `platform.control`
    yet, so that no partition can know another parent.
    """

    def __init__(self, partitions: int, complete_below: int = 0) -> None:
        self._all = range(partitions)
        self._complete_below = complete_below

    def route(self, key: str, value: bytes | None, version: Version, found: Mapping[str, bytes]) -> Routed:
        """The records to write; none for keys that are not relayed. `found`: the headers of the record.

        A device whose record is broken, or was deleted, goes to every partition in the state that every reader gives
        it: the record before may be gone, and with it the name of its parent. Tokens are left out: no stage needs
        them, and many read the streams.
        """
        device = device_of(key)
        if device is not None and is_device_id(device):
            return self._device(key, value, version, found)
        if device is not None or not is_relayed(key) or value is None:
            return Routed([], None if device is None else f"control record {key[:80]!r}: not a valid device id")
        targets: Iterable[int] = self._all
        if is_mark(key):
            try:
                marked = Mark.decode(key, value).device
            except ContractError as error:
                return Routed([], str(error))
            targets = self._all if marked is None else [self._partition(marked)]
        return Routed(self._to(targets, key, value, version))

    def _device(self, key: str, value: bytes | None, version: Version, found: Mapping[str, bytes]) -> Routed:
        device, broken = read_device(key, value)
        former: Sequence[str] | None = None
        if value and broken is None:
            former = former_parents(found)
            if former is None and version.offset < self._complete_below:
                former = ()
        targets: Iterable[int] = self._all
        if former is not None:
            owners = {device.id, *former} | ({device.parent} if device.parent is not None else set())
            targets = sorted({self._partition(name) for name in owners})
        return Routed(self._to(targets, key, device.encode(with_token=False), version), broken)

    def _to(self, targets: Iterable[int], key: str, value: bytes, version: Version) -> list[Outgoing]:
        found = headers.raw_control(version, key)
        return [Outgoing(partition, found, value) for partition in targets]

    def _partition(self, device: str) -> int:
        return partition_of(device.encode(), len(self._all))


def off_ms(sent_ms: int, appended_ms: int, answered_ms: int) -> int:
    """Least difference between our clock and Kafka's, which appended between our sending and its acknowledgement."""
    return max(0, sent_ms - appended_ms, appended_ms - answered_ms)


class Clock:
    """Whether ticks may carry our clock's time. It must agree with Kafka's, and again after every jump.

    Times are milliseconds: `wall` since 1970, `steady` of a clock that never jumps.
    """

    def __init__(self) -> None:
        self.off_ms = 0
        self._proved: tuple[int, int] | None = None

    @property
    def proved(self) -> bool:
        return self._proved is not None

    def proof(self, sent_ms: int, appended_ms: int, wall_ms: int, steady_ms: int) -> None:
        """Kafka appended a record of ours that was sent at `sent_ms` and is acknowledged now."""
        self.off_ms = off_ms(sent_ms, appended_ms, wall_ms)
        self._proved = (wall_ms, steady_ms) if self.off_ms <= MOST_OFF_MS else None

    def may_tick(self, wall_ms: int, steady_ms: int) -> bool:
        """Whether a tick with the time `wall_ms` is known to be right."""
        if self._proved is None:
            return False
        wall, steady = self._proved
        if abs((wall_ms - wall) - (steady_ms - steady)) > _STEP_MS:
            self._proved = None
            return False
        return True


@dataclass(frozen=True, slots=True)
class Generation:
    """What a committed position belongs to: both topics by epoch. With other topics, all is relayed from the start."""

    control_epoch: int
    raw_epoch: int

    def encode(self) -> str:
        return f"{self.control_epoch}/{self.raw_epoch}"

    def resume_at(self, offset: int, metadata: str | None) -> int:
        """The offset to write from, given what was committed (offset negative: nothing)."""
        return offset if offset >= 0 and metadata == self.encode() else 0
