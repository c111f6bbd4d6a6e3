"""`telemetry.readings`: access's answer, exactly one record for each record of `telemetry.raw`.

A data record holds the readings of accepted messages (verdict 0, any number of rows a message) and one row for each
message that was denied (1) or is a dead letter (2), with its bytes and the reason. Duplicates are only counted, in the
headers. Rows are in order of (raw_row, reading_index).

Version 2 has the same columns and may hold event rows (verdict 4): one for each accepted message outside of telemetry,
and one for each row of the platform's own (connects and disconnects), which is no message.
    metric         the topic after the device: `event/offline`, `config`, `reply/17`; `connected`, `disconnected` by the
                   platform
    payload, content_type, boot, seq   of the message
    value, text, channel, reason       null

Version 1.
    verdict        vocabulary.Verdict
    device         whose reading it is; for gateways the child
    publisher      authenticated publisher
    channel        from the topic; null where the topic is no telemetry topic
    metric         dotted path in the payload; null on denied and dead rows
    time           when the device says it was measured, or received_at
    value          number (true 1, false 0); null when the reading is text
    text           text reading; null otherwise
    quality        vocabulary.Quality flags
    received_at    when the bridge read the message
    boot, seq      of the message; null when absent
    raw_row        row in the raw record
    reading_index  position of the reading in its message; 0 on denied and dead rows
    replay_of      as in raw
    reason         why denied or dead: `rule: detail`; null on accepted rows
    topic, payload, content_type, ts   of the message, denied and dead rows only
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.readings"
VERSION: Final = 2

DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())

SCHEMA: Final = pa.schema(
    [
        pa.field("verdict", pa.uint8(), nullable=False),
        pa.field("device", DICTIONARY, nullable=False),
        pa.field("publisher", DICTIONARY, nullable=False),
        pa.field("channel", DICTIONARY),
        pa.field("metric", DICTIONARY),
        pa.field("time", pa.timestamp("ms", "UTC")),
        pa.field("value", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("quality", pa.uint8(), nullable=False),
        pa.field("received_at", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("boot", pa.int64()),
        pa.field("seq", pa.int64()),
        pa.field("raw_row", pa.int32(), nullable=False),
        pa.field("reading_index", pa.int32(), nullable=False),
        pa.field("replay_of", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("topic", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field("content_type", pa.string()),
        pa.field("ts", pa.string()),
    ]
)


def read(found: Mapping[str, bytes], value: bytes, only: ipc.Columns | None = None) -> pa.RecordBatch:
    """The batch of a data record of any version up to VERSION, or some of its columns; see schemas.ipc.read for what it
    raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION, only)
