"""Payloads to columns: a record batch of `telemetry.raw` in, all its readings as numpy columns out.

    decoder = Decoder()                      # one a process; not thread-safe
    got = decoder.decode(batch)              # batch: schemas.raw.SCHEMA
    got = decoder.decode(batch, wanted)      # wanted: bool[rows]; the other rows are left alone

The answer (`Decoded`) is a pure function of the batch, but for the numbers behind metric names: those depend on what
was decoded before, so only what they stand for (`Decoded.names`) may reach an output. `first_seen` makes dictionaries
whose order does not depend on history. The decoder never raises for data: what it cannot decode is in `Decoded.dead`,
by one of RULES.

What a payload may say
    JSON   object, nested up to four levels (`{"motor": {"rpm": 5}}` is the metric `motor.rpm`), or an array of objects,
           each with its own `ts`. Numbers, booleans (1 and 0) and strings are readings, null is none, arrays are not
           taken. Reserved keys at the top of an object: `ts`, `boot`, `seq`, `device` (the child a gateway speaks for)
    SenML  RFC 8428, JSON and CBOR; names are mapped to child and metric as formats/senml.py says
    Arrow  IPC stream of gateways, columns `metric`, `value` and/or `text`, and optionally `device` and `time`

Who says boot, seq and ts
    boot, seq   MQTT user properties (HTTP headers) or keys of the JSON; where both speak they must agree, else the
                message is a dead letter (`boot: …`, `seq: …`). They are known for dead letters, too, as far as they
                could be read, so that the caller can mark them
    ts          a reading's own time comes first, then the message's `ts` property, then received_at. Milliseconds since
                1970 (also negative) or ISO 8601; without an offset it is UTC

How: properties.py reads the user properties of all rows. tokens.py takes the JSON of the whole batch apart with numpy,
templates.py knows what the shapes mean, fast.py puts the two together. What that does not answer (other formats, what
is broken, escapes and other than ASCII, shapes seen once) goes through formats/ a message at a time, in slow.py: they
are the law, and the batch path must equal it bit for bit.

A new format is one file in formats/ and one line in its registry.
"""

from streams.access.decode.columns import Decoded, first_seen
from streams.access.decode.decoder import Decoder
from streams.access.decode.limits import MAX_MESSAGE_READINGS, MAX_OBJECT_READINGS, RULES

__all__ = ["MAX_MESSAGE_READINGS", "MAX_OBJECT_READINGS", "RULES", "Decoded", "Decoder", "first_seen"]
