"""What the relay decides, without Kafka or a clock: where a control record goes, and whether the clock may be told."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schemas import headers
from schemas.control import Device, Mark, device_of, is_mark, is_relayed
from schemas.headers import Headers, Version
from schemas.partition import partition_of

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


class Routing:
    """Which partitions a control record goes to. Remembers parents, so that one that lost a child hears of it."""

    def __init__(self, partitions: int) -> None:
        self._all = range(partitions)
        self._parents: dict[str, str] = {}

    def learn(self, key: str, value: bytes | None) -> None:
        """Take note of a record that was relayed before."""
        self._targets(key, value)

    def route(self, key: str, value: bytes | None, version: Version) -> list[Outgoing]:
        """The records to write; none for keys that are not relayed and for tombstones (a device that goes is
        `removed` first). Raises ContractError on a broken record.

        Tokens stay behind: nobody in the stream needs them, and streams are read by many.
        """
        if not is_relayed(key) or value is None:
            return []
        targets = self._targets(key, value)
        if device_of(key) is not None:
            value = Device.decode(key, value).encode(with_token=False)
        found = headers.raw_control(version, key)
        return [Outgoing(partition, found, value) for partition in targets]

    def _targets(self, key: str, value: bytes | None) -> Iterable[int]:
        """All partitions for policy and settings; for a device its own, its parent's and the one of the parent it had;
        for a mark that of its device."""
        if is_mark(key):
            marked = Mark.decode(key, value).device if value is not None else None
            return self._all if marked is None else [partition_of(marked.encode(), len(self._all))]
        device = device_of(key)
        if device is None:
            return self._all
        former = self._parents.pop(device, None)
        parent = Device.decode(key, value).parent if value is not None else None
        if parent is not None:
            self._parents[device] = parent
        owners = {name for name in (device, parent, former) if name is not None}
        return sorted({partition_of(name.encode(), len(self._all)) for name in owners})


def off_ms(sent_ms: int, appended_ms: int, answered_ms: int) -> int:
    """How far our clock is off Kafka's, at least: it appended between our sending and hearing of it. 0 if it fits."""
    return max(0, sent_ms - appended_ms, appended_ms - answered_ms)


class Clock:
    """Whether our clock may be told to the stream. It must be proved against Kafka's, and again after every jump.

    Times are milliseconds: `wall` since 1970, `steady` of a clock that never jumps.
    """

    def __init__(self) -> None:
        self.off_ms = 0
        self._proved: tuple[int, int] | None = None

    @property
    def proved(self) -> bool:
        return self._proved is not None

    def proof(self, sent_ms: int, appended_ms: int, wall_ms: int, steady_ms: int) -> None:
        """Kafka appended a record of ours that was made at `sent_ms` and is heard of now."""
        self.off_ms = off_ms(sent_ms, appended_ms, wall_ms)
        self._proved = (wall_ms, steady_ms) if self.off_ms <= MOST_OFF_MS else None

    def may_tell(self, wall_ms: int, steady_ms: int) -> bool:
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
