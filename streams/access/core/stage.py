"""The stage that the frame runs: telemetry.raw in, telemetry.readings out."""

from dataclasses import replace

from runtime.stage.contract import Frozen, Record
from schemas.topics import RAW, READINGS
from schemas.vocabulary import Kind
from streams.access.core.state import State
from streams.access.decode import Decoder


class AccessStage:
    """Decides about every message. Partitions share the decoder, which learns shapes of payloads and nothing else."""

    name = "access"
    logic_version = 3
    reads = (1,)
    source = RAW
    outputs = (READINGS,)

    def __init__(self) -> None:
        self.decoder = Decoder()

    def create(self, partition: int) -> State:
        return State(self.decoder)

    def skipped(self, record: Record, reason: str) -> Record:
        """The same record: its state answers it by what the headers declare."""
        return replace(record, kind=Kind.DATA, skipped=reason)

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        """States of version 1 have the same form."""
        return State.restored(self.decoder, stored)
