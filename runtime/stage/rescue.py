"""Applies a data record on which a stage raises: the rows at fault are left out, the others are applied.

The half-changed state is thrown away. The state before the record is rebuilt, from the newest snapshot and the records
since, and tries the record in parts. Which rows are left out follows from state and record alone, so every worker that
ever applies the record again leaves out the same ones.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import orjson

from runtime.columns.types import Bool
from runtime.errors import FatalError, MillraceError
from runtime.stage.bisect import bisect
from runtime.stage.contract import Divisible, Frozen, Output, Record, State
from schemas.errors import ContractError
from schemas.vocabulary import Kind

log = logging.getLogger(__name__)

BUG_ROWS: Final = 16
BUG_OWNERS: Final = 4
"""Every row of a record raising is a bug that hits all, from so many rows on, of so many devices. Fewer may be what one
device sends, which must not stop the others."""
_NAMED: Final = 5
"""Rows that a log line names."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """The state after the record, its outputs, and how many rows were left out."""

    state: State
    outputs: Sequence[Output]
    refused: int


def copied(frozen: Frozen) -> Frozen:
    """One that no later record changes, in the form in which a stored one comes back."""
    meta = orjson.loads(orjson.dumps(frozen.meta, option=orjson.OPT_SORT_KEYS))
    return Frozen(meta, {name: np.array(array, order="C") for name, array in frozen.arrays.items()})


def is_divisible(stage: object, record: Record, error: Exception) -> bool:
    """Whether rows of the record may be to blame, and can be left out."""
    excluded = isinstance(error, MemoryError | MillraceError | ContractError)
    return record.kind is Kind.DATA and not excluded and isinstance(stage, Divisible)


def rescue(stage: Divisible, before: Frozen, record: Record) -> Rescued:
    """Apply what can be applied of a record. `before`: the state before it; it is left as it is.

    Raises FatalError where all rows fail, of so many devices that the stage must be at fault; and whatever the stage
    raises for a record without rows.
    """

    def state() -> State:
        return stage.restore(record.partition, copied(before), stage.logic_version)

    owners = stage.owners(record)
    taken: Bool = np.zeros(len(owners), np.bool_)
    refused: dict[int, Exception] = {}

    def attempt(first: int, end: int) -> None:
        wanted = taken.copy()
        wanted[first:end] = True
        state().apply(replace(stage.only(record, wanted), trial=True))
        taken[first:end] = True

    for _ in bisect(0, len(owners), attempt, refused.__setitem__):
        pass
    where = f"{stage.source}/{record.partition} offset {record.offset}"
    if len(refused) == len(owners) >= BUG_ROWS and len(set(owners)) >= BUG_OWNERS:
        raise FatalError(f"{where}: {stage.name} raises for every row: {refused[0]!r}") from refused[0]
    _tell(where, owners, refused)
    after = state()
    return Rescued(after, after.apply(stage.only(record, taken)), len(refused))


def _tell(where: str, owners: Sequence[str], refused: dict[int, Exception]) -> None:
    for row, error in list(refused.items())[:_NAMED]:
        log.error("%s row %d, of %s, is left out: %r", where, row, owners[row], error, exc_info=error)
    if len(refused) > _NAMED:
        log.error("%s: %d rows more are left out", where, len(refused) - _NAMED)


def replayed(stage: Divisible, state: State, records: Iterable[Record]) -> Frozen:
    """The state after these records, which were applied before: some of them perhaps with rows left out. As a rule with
    none, so a copy of the state before each record is made only when it turns out to be needed."""
    every, begin = list(records), copied(state.freeze())
    try:
        for record in every:
            state.apply(replace(record, trial=True))
    except Exception as error:
        if not is_divisible(stage, record, error):
            raise
        return _replayed_with_copies(stage, begin, every)
    return copied(state.freeze())


def _replayed_with_copies(stage: Divisible, before: Frozen, records: Sequence[Record]) -> Frozen:
    state = stage.restore(records[0].partition, copied(before), stage.logic_version)
    for record in records:
        try:
            state.apply(replace(record, trial=True))
        except Exception as error:
            if not is_divisible(stage, record, error):
                raise
            state = rescue(stage, before, record).state
        before = copied(state.freeze())
    return before
