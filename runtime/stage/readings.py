"""How stages that read telemetry.readings take a record in part."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from runtime.stage.contract import Record
from schemas import ipc, readings
from schemas.errors import ContractError
from schemas.headers import Counts, ReadingsHeaders
from schemas.skips import MAX_ROWS
from schemas.vocabulary import Kind, Verdict

_SCHEMA = f"{readings.NAME}/{readings.VERSION}".encode()
_EMPTY = ipc.encode(pa.RecordBatch.from_pylist([], schema=readings.SCHEMA))


class TakesReadings:
    """Makes a stage that reads telemetry.readings a `contract.Divisible` and a `contract.Skippable`."""

    def owners(self, record: Record) -> Sequence[str]:
        found: list[str] = readings.read(record.headers, record.value).column("device").to_pylist()
        return found

    def only(self, record: Record, kept: Any) -> Record:
        batch = readings.read(record.headers, record.value)
        verdicts = batch.column("verdict").to_numpy()
        refused = int(np.count_nonzero((verdicts == Verdict.ACCEPTED) & ~kept))
        value = ipc.encode(batch.filter(pa.array(kept)))
        headers = {**record.headers, "schema": _SCHEMA}  # an older record is read as one of today's
        return replace(record, headers=headers, value=value, refused=refused)

    def skipped(self, record: Record, reason: str) -> Record:
        """A record of no rows, whose readings, as many as its headers declare, were refused."""
        found = {**record.headers, "kind": Kind.DATA.encode()}
        try:
            counts = Counts.parse(found)
        except ContractError:
            counts = Counts()
        headers = ReadingsHeaders(Kind.DATA, 0, counts).encode()
        refused = min(max(0, counts.readings), MAX_ROWS)
        return replace(record, kind=Kind.DATA, headers=dict(headers), value=_EMPTY, refused=refused, skipped=reason)
