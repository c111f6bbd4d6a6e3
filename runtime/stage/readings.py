"""How stages that read telemetry.readings take a record in part."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from runtime.stage.contract import Record
from schemas import ipc, readings
from schemas.vocabulary import Verdict

_SCHEMA = f"{readings.NAME}/{readings.VERSION}".encode()


class TakesReadings:
    """Makes such a stage a `contract.Divisible`."""

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
