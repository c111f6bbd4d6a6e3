"""Messages as bytes: every form of payload, the broken ones and the forbidden ones."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import cbor2
import numpy as np
import orjson
import pyarrow as pa

from local.fleet.kinds import CLIMATE, GATEWAY, KINDS, METRICS, Kind
from local.fleet.population import CHILDREN, HAS_PROPERTIES, Form, Member
from local.fleet.publication import Publication
from runtime.mqtt.properties import encode_property, user_property
from runtime.mqtt.wire import binary
from schemas import ipc
from schemas.topics import telemetry_topic

Samples = Sequence[Sequence[float]]
"""Of each sample of a message its METRICS values: one, two for Form.ARRAY, one a child for gateways."""

EARLIER_MS: Final = 50
"""How long before the last sample of a Form.ARRAY the first one was taken."""
UNREGISTERED: Final = f"{CLIMATE.name}-00000"
"""A device that is not a child of any gateway."""
_ARROW: Final = pa.schema(
    [
        pa.field("device", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("time", pa.timestamp("ms", "UTC")),
        pa.field("value", pa.float64()),
    ]
)


class _Formats(NamedTuple):
    flat: bytes
    bare: bytes
    nested: bytes
    array: bytes
    child: bytes


def _formats(kind: Kind) -> _Formats:
    metrics = ",".join(f'"{m.name}":%.{m.decimals}f' for m in kind.metrics)
    return _Formats(
        f'{{"ts":%d,"boot":%d,"seq":%d,{metrics}}}'.encode(),
        f"{{{metrics}}}".encode(),
        f'{{"boot":%d,"seq":%d,"ts":"%s","{kind.name}":{{{metrics}}}}}'.encode(),
        f'[{{"ts":%d,"boot":%d,"seq":%d,{metrics}}},{{"ts":%d,{metrics}}}]'.encode(),
        f'{{"device":"%s","ts":%d,{metrics}}}'.encode(),
    )


_BY_KIND: Final = {kind.name: _formats(kind) for kind in KINDS}


BROKEN: Final = (
    b'{"temperature":21.5,',
    b'{"state":"\xff\xfe"}',
    b'{"temperature":NaN}',
    b'{"temperature":[21.5,21.6]}',
    b'{"the temperature":21.5}',
    b'{"ts":"yesterday","temperature":21.5}',
    b"{}",
    b"temperature=21.5",
    b'{"temperature":21.5}{"temperature":21.6}',
    b"",
)
"""Payloads that no decoder may take for readings."""


class Voice:
    """Writes the messages of one device; what is the same in all of them is made once."""

    def __init__(self, member: Member, children: Sequence[str] = ()) -> None:
        self._member, self._children = member, children
        self._formats = _BY_KIND[member.kind.name]
        self._writer = _WRITERS[member.form]
        self._has_properties = member.form in HAS_PROPERTIES
        self._more = _MORE.get(member.form, b"") + (user_property(b"ack", b"1") if member.acknowledged else b"")
        self.topic = _topic(member, member.kind.channel)
        self._forbidden_topic = _topic(member, member.kind.forbidden or member.kind.channel)
        self.flat = self._formats.flat if member.form is Form.FLAT else None
        """For callers in a hurry: what `write` fills with (time_ms, boot, seq, *values) when the form is flat."""

    def write(self, boot: int, seq: int, time_ms: int, samples: Samples) -> Publication:
        """A message as the policy wants it. `samples`: as many as `samples_of` says."""
        member = self._member
        payload = self._writer(member.kind, self._children, boot, seq, time_ms, samples)
        if not self._has_properties:
            return Publication(self.topic, b"", payload)
        properties = identity(boot, seq) + self._more
        if member.form is Form.BARE:
            properties += user_property(b"ts", b"%d" % time_ms)
        return Publication(self.topic, properties, payload, (boot, seq) if member.acknowledged else None)

    def forbid(self, boot: int, seq: int, time_ms: int, sample: Sequence[float]) -> Publication:
        """A well-formed message that the role may not send: on others' channel, or for another device's child."""
        properties = b"" if self._member.http else identity(boot, seq)
        if self._member.kind is GATEWAY:
            payload = self._formats.child % (UNREGISTERED.encode(), time_ms, *sample)
        else:
            payload = self._formats.flat % (time_ms, boot, seq, *sample)
        return Publication(self._forbidden_topic, properties, payload)

    def malform(self, boot: int, seq: int, which: int) -> Publication:
        """A message that cannot be understood. Its (boot, seq) are properties, so that even its repeats are known."""
        return Publication(self.topic, identity(boot, seq), BROKEN[which % len(BROKEN)])


def _topic(member: Member, channel: str) -> bytes:
    return binary(telemetry_topic(member.id, channel).encode())


def identity(boot: int, seq: int) -> bytes:
    """boot and seq as user properties."""
    number = b"%d" % seq
    return b"%b&\0\x03seq\0%c%b" % (_boot(boot), len(number), number)


@lru_cache(65_536)
def _boot(boot: int) -> bytes:
    return user_property(b"boot", b"%d" % boot)


def _flat(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    return _BY_KIND[kind.name].flat % (time_ms, boot, seq, *samples[0])


def _bare(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    return _BY_KIND[kind.name].bare % (*samples[0],)


def _nested(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    return _BY_KIND[kind.name].nested % (boot, seq, _iso(time_ms), *samples[0])


def _array(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    first, last = samples
    return _BY_KIND[kind.name].array % (time_ms - EARLIER_MS, boot, seq, *first, time_ms, *last)


def _children(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    child = _BY_KIND[kind.name].child
    rows = [child % (c.encode(), time_ms, *s) for c, s in zip(children, samples, strict=True)]
    head = b'{"boot":%d,"seq":%d,' % (boot, seq)
    return b"[" + head + b",".join(rows)[1:] + b"]"


def _senml(kind: Kind, children: Sequence[str], time_ms: int, samples: Samples) -> list[dict[str, Any]]:
    """RFC 8428: a base name for each child, one base time."""
    records: list[dict[str, Any]] = []
    for child, sample in zip(children, samples, strict=True):
        for metric, value in zip(kind.metrics, sample, strict=True):
            records.append({"n": metric.name, "v": round(value, metric.decimals)})
        records[-METRICS] = {"bn": f"{child}/", **records[-METRICS]}
    records[0] = {"bt": time_ms / 1000, **records[0]}
    return records


def _senml_json(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    return orjson.dumps(_senml(kind, children, time_ms, samples))


_LABELS: Final = {"bn": -2, "bt": -3, "n": 0, "v": 2}
"""Keys of SenML in CBOR (RFC 8428, table 4)."""


def _senml_cbor(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    records = _senml(kind, children, time_ms, samples)
    return cbor2.dumps([{_LABELS[key]: value for key, value in record.items()} for record in records])


def _arrow(kind: Kind, children: Sequence[str], boot: int, seq: int, time_ms: int, samples: Samples) -> bytes:
    devices, metrics = _names(tuple(children), kind)
    values = np.array(samples).ravel()
    times = pa.array(np.full(len(values), time_ms)).cast(_ARROW.field("time").type)
    batch = pa.RecordBatch.from_arrays([devices, metrics, times, pa.array(values)], schema=_ARROW)
    return ipc.encode(batch)


@lru_cache(4096)
def _names(children: tuple[str, ...], kind: Kind) -> tuple[Any, Any]:
    names = [m.name for m in kind.metrics]
    devices = [child for child in children for _ in names]
    return pa.array(devices, pa.string()), pa.array(names * len(children), pa.string())


def _iso(time_ms: int) -> bytes:
    return b"%b.%03dZ" % (_iso_s(time_ms // 1000), time_ms % 1000)


@lru_cache(1024)
def _iso_s(time_s: int) -> bytes:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


_WRITERS: Final[dict[Form, Callable[[Kind, Sequence[str], int, int, int, Samples], bytes]]] = {
    Form.FLAT: _flat,
    Form.NESTED: _nested,
    Form.ARRAY: _array,
    Form.BARE: _bare,
    Form.CHILDREN: _children,
    Form.SENML_JSON: _senml_json,
    Form.SENML_CBOR: _senml_cbor,
    Form.ARROW: _arrow,
}
_MORE: Final = {
    Form.SENML_JSON: encode_property("content_type", "application/senml+json"),
    Form.SENML_CBOR: encode_property("content_type", "application/senml+cbor"),
    Form.ARROW: encode_property("content_type", "application/vnd.apache.arrow.stream"),
}


def samples_of(member: Member) -> int:
    """How many samples `write` needs."""
    return CHILDREN if member.kind is GATEWAY else 2 if member.form is Form.ARRAY else 1
