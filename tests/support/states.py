"""A stage's state as bytes and back, as a snapshot would."""

import orjson

from runtime.columns.pack import pack, unpack
from runtime.stage.contract import Frozen, Stage, State


def stored(state: State) -> bytes:
    """All that a snapshot holds of it: equal states give equal bytes."""
    return as_bytes(state.freeze())


def as_bytes(frozen: Frozen) -> bytes:
    """The same of a state that was read back."""
    meta = orjson.loads(orjson.dumps(frozen.meta, option=orjson.OPT_SORT_KEYS))
    return pack(meta, dict(sorted(frozen.arrays.items())))


def restored(stage: Stage, blob: bytes, partition: int = 0) -> State:
    """The state again, in arrays of its own."""
    return stage.restore(partition, Frozen(*unpack(blob)), stage.logic_version)
