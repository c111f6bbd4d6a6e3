"""`telemetry.anomalies`: readings that a detector found strange, one row each; one record for each tick and for each
record of readings that holds some. Of a long incident the first ones are written, the others only counted in its
`points`.

Version 1.
    incident       id of the incident it belongs to (schemas/incidents.py)
    detector       name of the detector in the settings: residual, limits, rate, stuck, silence, shift …
    device, publisher, channel, metric   the series; of a silence the last that sent a reading
    time           of the reading; of a silence when it was noticed
    received_at    of the reading; of a silence stream time when it was noticed
    value          of the reading; null for a silence
    score          0 to 1
    low, high      expected range; null where there is none
    severity       vocabulary.Severity
    explanation    one line: "38.2; usual at this hour 20.1 to 22.4"
    raw_row, reading_index   name of the reading with raw epoch, partition and offset; null for a silence
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.anomalies"
VERSION: Final = 1

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MS: Final = pa.timestamp("ms", "UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("incident", pa.string(), nullable=False),
        pa.field("detector", _WORD, nullable=False),
        pa.field("device", _WORD, nullable=False),
        pa.field("publisher", _WORD, nullable=False),
        pa.field("channel", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("time", _MS, nullable=False),
        pa.field("received_at", _MS, nullable=False),
        pa.field("value", pa.float64()),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("severity", pa.uint8(), nullable=False),
        pa.field("explanation", pa.string(), nullable=False),
        pa.field("raw_row", pa.int32()),
        pa.field("reading_index", pa.int32()),
    ]
)


def read(found: Mapping[str, bytes], value: bytes) -> pa.RecordBatch:
    """The batch of a record with rows, of any version up to VERSION; see schemas.ipc.read for what it raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION)
