"""A stage's state as bytes and back, as a snapshot would."""

from runtime.columns.pack import pack, unpack
from runtime.stage.contract import Frozen, Stage, State


def stored(state: State) -> bytes:
    """All that a snapshot holds of it: equal states give equal bytes."""
    frozen = state.freeze()
    return pack(frozen.meta, frozen.arrays)


def restored(stage: Stage, blob: bytes, partition: int = 0) -> State:
    """The state again, in arrays of its own."""
    return stage.restore(partition, Frozen(*unpack(blob)), stage.logic_version)
