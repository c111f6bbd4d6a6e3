"""What a stage is: a pure function of its partition. The frame (Faust) does all input, output and snapshots.

A stage looks at no clock, no file and no other topic. All its input is the records it is given, and all its
memory is its State; the same records give the same outputs, byte for byte, whenever and wherever they run.
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
    on them. `trial`: only to see whether it raises; its results are discarded, so metrics must not count it.
    `skipped`: an operator skips the record, for this reason; `value` may be anything (see Skippable).
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
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One record for an output topic. The frame adds provenance headers; at most one per topic and source record."""

    topic: str
    value: bytes
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A state between two records: a part that JSON can encode, and named numpy arrays of fixed-size types.

    `meta` should be small (it is encoded at every snapshot); what grows with devices or series belongs in arrays. Large
    arrays are stored in pieces of some MB, of which only those that changed are written: one that only grows at its end
    is cheap.
    """

    meta: Any
    arrays: Mapping[str, Any]


class State(Protocol):
    """The state of one partition. Not thread-safe: the frame never calls two methods at the same time.

    state = stage.create(0)
    outputs = state.apply(record)  # for each record, in offset order
    stored = state.freeze()  # between two records; copied before the next `apply`
    same = stage.restore(0, stored, stage.logic_version)
    """

    def apply(self, record: Record) -> Sequence[Output]:
        """Apply one record; returns at most one output a topic. Called in offset order, once for each record.

        Raises ContractError for a record that breaks the contract, before the state has changed: the worker stops with
        exit code 78 until an operator decides. Any other exception costs the rows at fault (see Divisible).
        """

    def freeze(self) -> Frozen:
        """The state as it is now: meta and arrays may be the live ones, or views of them, since the frame copies them
        before the next record. No record is applied meanwhile, so leave to `restore` what can be computed there."""

    def sizes(self) -> Mapping[str, int]:
        """Gauges of `millrace_stage_state_…`: `bytes` in memory, and items by kind (`devices`,
        `series`). Called often, so it must be cheap."""


class Stage(Protocol):
    """A stage: where it reads, where it writes, how its state is created and restored.

    The frame calls, for each partition that is assigned: `create` or `restore` once, then for each record `apply` and,
    where the stage is `Observed`, `observe`; between two records now and then `freeze`. Nothing of it runs at the same
    time for one partition, but `restore` and `apply` of a copy may run in a thread (a rescue, see Divisible), so what
    partitions share must not change.

        class Doubled(TakesReadings):
            name, logic_version, reads = "doubled", 1, ()
            source, outputs = READINGS, ("telemetry.doubled",)

            def create(self, partition: int) -> State:
                return DoubledState()

            def restore(self, partition: int, stored: Frozen, version: int) -> State:
                state = DoubledState()
                state.seen = stored.meta["seen"]
                return state
    """

    @property
    def name(self) -> str:
        """Of the consumer group, of `state.{name}` and of metrics. Never changed."""

    @property
    def logic_version(self) -> int:
        """Raised whenever the same records could give other outputs or the state's form changes."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Older logic versions whose stored states `restore` can take."""

    @property
    def source(self) -> str:
        """The topic that is read."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that are written, each with as many partitions as the source."""

    def create(self, partition: int) -> State:
        """The state before the first record of `partition`; an exception ends the worker with exit code 70."""

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        """The state that was frozen, by logic version `version`: this one or one of `reads`. The arrays are the state's
        own from now on and may be written to. An exception ends the worker with exit code 70."""


@runtime_checkable
class Divisible(Stage, Protocol):
    """A stage whose data records can be taken in part: rows on which it raises cost no more than themselves."""

    def owners(self, record: Record) -> Sequence[str]:
        """The device of each row."""

    def only(self, record: Record, kept: Any) -> Record:
        """The record with the rows flagged (bool[rows]) and no others; `refused` counts the readings among the rest."""


@runtime_checkable
class Skippable(Stage, Protocol):
    """A stage whose records an operator may skip (`millrace stage skip`) without a hole in the ledger. Records of other
    stages are dropped without an output."""

    def skipped(self, record: Record, reason: str) -> Record:
        """What is applied in place of the record: all its rows count as refused. `record` may hold anything, only its
        offsets are right; the result follows from it and `reason` alone, since a replay must give the same."""


@runtime_checkable
class Observed(Stage, Protocol):
    """A stage with metrics of its own."""

    def observe(self, state: Any, record: Record) -> None:
        """Called after each record that was applied, with its state: count. The clock may be read here. Trials are not
        observed, and what is done here must not change the state."""
