"""The stage that the frame runs: telemetry.raw in, telemetry.readings out."""

from typing import Any

from runtime.columns.pack import pack, unpack
from schemas.topics import RAW, READINGS
from streams.access.core.state import Frozen, State
from streams.access.decode import Decoder


class AccessStage:
    """Decides about every message. Partitions share the decoder, which learns shapes of payloads and nothing else."""

    name = "access"
    logic_version = 2
    source = RAW
    outputs = (READINGS,)

    def __init__(self) -> None:
        self.decoder = Decoder()

    def create(self, partition: int) -> State:
        return State(self.decoder)

    def encode(self, frozen: Any) -> bytes:
        assert isinstance(frozen, Frozen)
        return pack(frozen.meta, frozen.arrays)

    def restore(self, partition: int, blob: bytes) -> State:
        return State.restored(self.decoder, *unpack(blob))
