"""What a stage is: a pure function of its partition. The frame (Faust) does all input, output and snapshots.

A stage looks at no clock, no file and no other topic. All that it knows of the world is in the records it is given, and
what it remembers is its State; the same records give the same outputs, byte for byte, whenever and wherever they run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.vocabulary import Kind


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the source topic, as a stage sees it.

    `src` is the offset of the raw record it comes from (for access: its own offset), `epoch` that of telemetry.raw,
    `headers` all headers of the record.
    """

    partition: int
    offset: int
    epoch: int
    src: int
    kind: Kind
    headers: Mapping[str, bytes]
    value: bytes


@dataclass(frozen=True, slots=True)
class Output:
    """One record for an output topic. The frame adds provenance headers; at most one per topic and source record."""

    topic: str
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class State(Protocol):
    """What a stage knows about one partition. Not thread-safe; `encode` alone may run in a thread."""

    def apply(self, record: Record) -> Sequence[Output]:
        """Take one record and say what follows from it. Called in offset order, once for each record."""

    def freeze(self) -> Any:
        """A copy of the state that later calls of `apply` do not change. Must be quick: the flow waits."""

    def sizes(self) -> Mapping[str, int]:
        """Figures for metrics: bytes, devices, series."""


class Stage(Protocol):
    """A stage: where it reads, where it writes, how its state is made, stored and restored."""

    @property
    def name(self) -> str: ...

    @property
    def logic_version(self) -> int:
        """Raised whenever the same records could give other outputs or the state's form changes."""

    @property
    def source(self) -> str: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def create(self, partition: int) -> State: ...

    def encode(self, frozen: Any) -> bytes:
        """Frozen state to bytes; pure; may run in a thread."""

    def restore(self, partition: int, blob: bytes) -> State: ...
