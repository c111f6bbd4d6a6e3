"""The interface of a stage: a pure function of its partition. The frame does all input, output and snapshots.

A stage reads no clock, no file and no other topic. Its only input is the records that it is given, and its only memory
is its State, so the same records give the same outputs, byte for byte, whenever and wherever it runs.

Protocols, from the frame's point of view: `Stage` creates and restores a `State` for each partition, `State` applies
records. A stage may also be `Divisible` (rows that raise are left out), `Skippable` (an operator may skip a record) and
`Observed` (metrics of its own). docs/how-to-add-a-stage.md has a complete example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from schemas.vocabulary import Kind


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the source topic, as it is passed to a stage.

    `partition` and `offset`: of the source topic. `epoch`: of telemetry.raw. `src`: the offset of the raw record that
    it comes from (for access: its own offset). `kind`: data, control or tick. `headers`: all headers of the record;
    `value`: its bytes.

    `refused`: number of readings that were removed from `value` because the stage raised an exception on them.
    `trial`: the record is applied only to find out whether it raises; the results are discarded, so metrics must not
    count it. `skipped`: the reason for which an operator skips the record, else None; `value` may then be invalid (see
    Skippable).
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
    """One record for an output topic; at most one per topic and source record.

    `topic`: one of `Stage.outputs`. `headers`: without `src` and `prev`, which the frame adds (the provenance). The
    partition is that of the source record.
    """

    topic: str
    value: bytes
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A state between two records: a part that can be encoded as JSON, and named numpy arrays of fixed-size types.

    `meta` must be small (it is encoded at every snapshot, and a manifest has at most 32 MB); data that grow with
    devices or series belong in `arrays`. Large arrays are stored in chunks of some MB, and only chunks that changed are
    written, so an array that only grows at its end is cheap.
    """

    meta: Any
    arrays: Mapping[str, Any]


class State(Protocol):
    """The state of one partition. Not thread-safe: the frame never calls two methods at the same time.

    Call order: `apply` for each record, in offset order; `freeze` and `sizes` between two records, at any time.

        state = stage.create(0)
        outputs = state.apply(record)  # for each record, in offset order
        stored = state.freeze()  # between two records; copied before the next `apply`
        same = stage.restore(0, stored, stage.logic_version)
    """

    def apply(self, record: Record) -> Sequence[Output]:
        """Apply one record and return its outputs, at most one per topic.

        Called once for each record, in offset order, including ticks and control records.

        Raises ContractError for a record that cannot be decoded, before the state has changed: the worker then stops
        with exit code 78 until an operator decides. On any other exception the state is discarded: the rows at fault
        are left out if the stage is Divisible, otherwise the worker stops with exit code 70.
        """

    def freeze(self) -> Frozen:
        """The current state. `meta` and `arrays` may be the live objects or views of them, because the frame copies
        them before the next record. Processing pauses meanwhile, so do not compute here what `restore` can compute. An
        exception ends the worker with exit code 70."""

    def sizes(self) -> Mapping[str, int]:
        """Gauges of `millrace_stage_state_…`: `bytes` in memory, and numbers of items by kind (`devices`,
        `series`). Called often, so it must be cheap."""


class Stage(Protocol):
    """A stage: its source and output topics, and how its state is created and restored.

    Call order, for each assigned partition: `create` or `restore` once, then for each record `State.apply` and, if the
    stage is `Observed`, `observe`; `State.freeze` between two records, at every snapshot. These calls never overlap for
    one partition, but `restore` and `apply` of a copy may run in a thread (see Divisible), so objects that partitions
    share must be immutable.

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
        """Name of the consumer group, of `state.{name}` and in metrics. Must never change."""

    @property
    def logic_version(self) -> int:
        """Must be raised when the same records could give other outputs, or the stored form of the state changes."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Older logic versions whose stored states `restore` can read; the worker refuses to start from others."""

    @property
    def source(self) -> str:
        """The topic that the stage reads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that the stage writes, each with as many partitions as the source."""

    def create(self, partition: int) -> State:
        """A new state, before the first record of `partition`. An exception ends the worker with exit code 70."""

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        """The state that `stored` was frozen from, by logic version `version`: this one or one of `reads`.

        The arrays belong to the new state and may be written to. An exception ends the worker with exit code 70."""


@runtime_checkable
class Divisible(Stage, Protocol):
    """A stage whose data records can be applied in part: rows on which it raises are left out, the others applied.

    After an exception in `apply` the frame restores the state before the record, searches the rows at fault with
    `only` (trials), and applies the record without them. Stages that read telemetry.readings inherit `TakesReadings`.
    """

    def owners(self, record: Record) -> Sequence[str]:
        """The device id of each row of a data record. Raises ContractError if the record cannot be decoded."""

    def only(self, record: Record, kept: Any) -> Record:
        """The record with only the rows for which `kept` (bool[rows]) is true. `refused` of the result is the number of
        readings in the other rows."""


@runtime_checkable
class Skippable(Stage, Protocol):
    """A stage for which an operator may skip a record (`millrace stage skip`) without a difference in the ledger. For
    other stages a skipped record is dropped without an output."""

    def skipped(self, record: Record, reason: str) -> Record:
        """The record to apply in place of a skipped one; all its rows count as refused.

        Only the offsets of `record` are reliable, headers and value may be invalid. Must not raise, and the result must
        depend on `record` and `reason` only, because a replay must give the same."""


@runtime_checkable
class Observed(Stage, Protocol):
    """A stage with metrics of its own."""

    def observe(self, state: Any, record: Record) -> None:
        """Called after each applied record, with the state after it, to update metrics. May read the clock; must not
        change the state. Not called for trials."""
