"""`telemetry.raw`: every message as it came. One row a message, one record a batch of one partition.

Version 1.
    device        authenticated publisher (its partition is the record's)
    topic         MQTT topic; for HTTP the topic the same message would have had
    payload       bytes as received (HTTP: after content-encoding was undone)
    content_type  MQTT 5 content type or HTTP Content-Type; null when absent. CUT: the message was too large for a
                  Kafka record, payload is its first KiB; a dead letter `too_large` by rule
    ts, boot, seq text of the MQTT user properties (HTTP: headers Millrace-Ts, -Boot, -Seq); null when absent.
                  Kept as text: what is not a number must reach the dead letters as it came
    transport     vocabulary.Transport
    qos, retain   of the PUBLISH as the broker handed it on; 0 for HTTP
    received_at   when the bridge read it
    replay_of     "epoch/partition/offset/row" of the row this one replays; set by the platform only

Rows of transport PLATFORM are no messages: the bridge reports in band what the broker logged of a device. Their topic
is `p/{device}/connected` or `p/{device}/disconnected`, their payload a JSON object ("reason", "address" where known).
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.raw"
VERSION: Final = 1
CUT: Final = "application/vnd.millrace.cut"
"""Content type of a row that holds only the beginning of its message."""

SCHEMA: Final = pa.schema(
    [
        pa.field("device", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("content_type", pa.string()),
        pa.field("ts", pa.string()),
        pa.field("boot", pa.string()),
        pa.field("seq", pa.string()),
        pa.field("transport", pa.uint8(), nullable=False),
        pa.field("qos", pa.uint8(), nullable=False),
        pa.field("retain", pa.bool_(), nullable=False),
        pa.field("received_at", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("replay_of", pa.string()),
    ]
)


def read(found: Mapping[str, bytes], value: bytes) -> pa.RecordBatch:
    """The batch of a data record of any version up to VERSION; see schemas.ipc.read for what it raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION)
