"""`telemetry.presence`: devices that came or went, one row a change; one record for each tick and for each record of
readings that changes something.

Version 1.
    device         device id; a gateway's children too
    publisher      in whose partition it lives
    state          vocabulary.Presence
    reason         telemetry, connected, disconnected, will, silence, removed (from the registry, or from this gateway)
    since          when it came or went, as far as is known (for a silence: time of its last message)
    time           stream time at which that was decided
    last_seen      receipt of the last message
    expected_s     how long it may be silent, as learned; null while it is not known
    flaps          changes that damping kept back since the row before
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.presence"
VERSION: Final = 1

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MS: Final = pa.timestamp("ms", "UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("device", pa.string(), nullable=False),
        pa.field("publisher", pa.string(), nullable=False),
        pa.field("state", _WORD, nullable=False),
        pa.field("reason", _WORD, nullable=False),
        pa.field("since", _MS, nullable=False),
        pa.field("time", _MS, nullable=False),
        pa.field("last_seen", _MS),
        pa.field("expected_s", pa.float64()),
        pa.field("flaps", pa.int32(), nullable=False),
    ]
)


def read(found: Mapping[str, bytes], value: bytes) -> pa.RecordBatch:
    """The batch of a record with rows, of any version up to VERSION; see schemas.ipc.read for what it raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION)
