"""What a stage is: a pure function of its partition. The frame (Faust) does all input, output and snapshots.

A stage looks at no clock, no file and no other topic. All that it knows of the world is in the records it is given, and
what it remembers is its State; the same records give the same outputs, byte for byte, whenever and wherever they run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from schemas.vocabulary import Kind


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the source topic, as a stage sees it.

    `src` is the offset of the raw record it comes from (for access: its own offset), `epoch` that of telemetry.raw,
    `headers` all headers of the record. `refused`: readings that are not in `value` any more, because the stage raised
    on them. `trial`: only to see whether it raises; what comes of it is thrown away, so metrics must not count it.
    """

    partition: int
    offset: int
    epoch: int
    src: int
    kind: Kind
    headers: Mapping[str, bytes]
    value: bytes
    refused: int = 0
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """One record for an output topic. The frame adds provenance headers; at most one per topic and source record."""

    topic: str
    value: bytes
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A state between two records: what JSON can say of it, and its named numpy arrays of fixed-size types.

    `meta` should be small (it is encoded at every snapshot); what grows with devices or series belongs in arrays. Large
    arrays are stored in pieces of some MB, of which only those that changed are written: one that only grows at its end
    is cheap.
    """

    meta: Any
    arrays: Mapping[str, Any]


class State(Protocol):
    """What a stage knows about one partition. Not thread-safe."""

    def apply(self, record: Record) -> Sequence[Output]:
        """Take one record and say what follows from it. Called in offset order, once for each record."""

    def freeze(self) -> Frozen:
        """The state as it is now: meta and arrays may be the live ones, or views of them, since the frame copies them
        before the next record. The flow waits meanwhile: no work that could be left to `restore`."""

    def sizes(self) -> Mapping[str, int]:
        """Figures for metrics: bytes, devices, series."""


class Stage(Protocol):
    """A stage: where it reads, where it writes, how its state is made and restored."""

    @property
    def name(self) -> str: ...

    @property
    def logic_version(self) -> int:
        """Raised whenever the same records could give other outputs or the state's form changes."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Older logic versions whose stored states `restore` can take."""

    @property
    def source(self) -> str: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def create(self, partition: int) -> State: ...

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        """The state that was frozen, by logic version `version`: this one or one of `reads`. The arrays are the state's
        own from now on and may be written to."""


@runtime_checkable
class Divisible(Stage, Protocol):
    """A stage whose data records can be taken in part: rows on which it raises cost no more than themselves."""

    def owners(self, record: Record) -> Sequence[str]:
        """The device of each row."""

    def only(self, record: Record, kept: Any) -> Record:
        """The record with the rows flagged (bool[rows]) and no others; `refused` counts the readings among the rest."""
