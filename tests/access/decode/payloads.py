"""Batches to decode, the law to compare with, and payloads that broke somebody's parser."""

import random
import struct
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import raw
from streams.access.decode import Decoded, Decoder
from streams.access.decode.formats import format_of
from streams.access.decode.limits import Invalid
from streams.access.decode.message import NO_TIME

RECEIVED_MS = 1_700_000_000_000
DEVICE = "dev-1"

Fate = tuple[Any, ...]
"""(boot, seq, readings) or (reason, boot, seq); a reading is (index, child, metric, time, bits of its value, text)."""


def batch(payloads: list[bytes], **columns: list[Any]) -> pa.RecordBatch:
    """Rows with these payloads; `columns` gives others of schemas.raw.SCHEMA."""
    n = len(payloads)
    found: dict[str, list[Any]] = {
        "device": [DEVICE] * n,
        "topic": [f"d/{DEVICE}/telemetry/climate"] * n,
        "payload": payloads,
        "transport": [0] * n,
        "qos": [1] * n,
        "retain": [False] * n,
        "received_at": [RECEIVED_MS + i for i in range(n)],
        **columns,
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(found.get(f.name, [None] * n), f.type) for f in raw.SCHEMA], schema=raw.SCHEMA
    )


def bits(value: float) -> bytes | None:
    return struct.pack("d", value) if value == value else None


def law(payload: bytes, received_ms: int, content_type: str | None = None) -> Fate:
    """What the format alone says."""
    try:
        message = format_of(content_type)(payload, received_ms)
    except Invalid as error:
        return str(error), error.boot, error.seq
    readings = [
        (
            index,
            None if child == DEVICE else child,
            metric,
            received_ms if time_ms == NO_TIME else time_ms,
            bits(value),
            text,
        )
        for index, (metric, value, text, time_ms, child) in enumerate(message.readings)
    ]
    return message.boot, message.seq, readings


def fates(got: Decoded) -> list[Fate]:
    """What a decoded batch says of each row. Checks that its columns fit together."""
    n = len(got.row)
    assert all(len(c) == n for c in (got.index, got.metric, got.time_ms, got.value))
    assert [c.dtype.name for c in (got.row, got.index, got.metric)] == ["int32"] * 3
    assert [c.dtype.name for c in (got.time_ms, got.boot, got.seq, got.value)] == ["int64", "int64", "int64", "float64"]
    assert (np.diff(got.row.astype(np.int64) << 32 | got.index) > 0).all()
    text = [None] * n if got.text is None else got.text.to_pylist()
    child = [None] * n if got.child is None else [None if c < 0 else got.children[c] for c in got.child.tolist()]
    out: list[Fate] = []
    for row in range(len(got.boot)):
        boot, seq = int(got.boot[row]), int(got.seq[row])
        out.append((got.dead[row], boot, seq) if row in got.dead else (boot, seq, []))
    columns = (got.row.tolist(), got.index.tolist(), got.metric.tolist(), got.time_ms.tolist(), got.value.tolist())
    for (row, index, metric, time, value), string, name in zip(zip(*columns, strict=True), text, child, strict=True):
        out[row][2].append((index, name, got.names[metric], time, bits(value), string))
    return out


def assert_lawful(decoder: Decoder, payloads: list[bytes], types: list[str | None] | None = None) -> None:
    """fast(batch) == map(law, batch), bit for bit, for a batch that does not begin at offset 0 of its buffers."""
    kinds = [None] * len(payloads) if types is None else types
    received = [RECEIVED_MS + i for i in range(-1, len(payloads) + 1)]
    whole = batch([b"xx", *payloads, b"y"], received_at=received, content_type=[None, *kinds, None])
    got = decoder.decode(whole.slice(1, len(payloads)))
    assert not got.fallback
    for row, (payload, kind, fate) in enumerate(zip(payloads, kinds, fates(got), strict=True)):
        assert fate == law(payload, RECEIVED_MS + row, kind), (kind, payload[:200])


DEEP = [
    b"[" * 2000 + b"]" * 2000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'{"a":' * 100_000,
]
LARGE = [
    b"[" + b",".join(b'{"a":%d}' % i for i in range(70)) + b"]",
    b"[" + b",".join(b'{"a":%d}' % i for i in range(10_001)) + b"]",
    b"{" + b",".join(b'"a%d":%d' % (i, i) for i in range(64)) + b"}",
    b"{" + b",".join(b'"a%d":%d' % (i, i) for i in range(65)) + b"}",
    b'{"a":"' + b"x" * 10_000_000 + b'"}',
]
EVIL: list[bytes] = [
    # numbers that name a message, or time, at their bounds
    b'{"seq":9007199254740993,"boot":1,"a":1}',
    b'{"seq":1,"boot":9007199254740993,"a":1}',
    b'{"seq":1,"boot":9007199254740991,"a":1}',
    b'{"seq":-1,"boot":0,"a":1}',
    b'{"seq":-0,"boot":-0.0,"a":1}',
    b'{"seq":1.5,"a":1}',
    b'{"seq":7.0,"boot":1.0,"a":1}',
    b'{"seq":5}',
    b'{"a":1,"seq":"7","boot":1}',
    b'{"a":1,"seq":true}',
    b'{"ts":"now","a":1}',
    b'{"ts":"2026-11-23T14:00:00+02:00","a":1}',
    b'{"ts":"2026-11-23T14:00:00Z","a":1}',
    b'{"ts":"20261123T140000","a":1}',
    b'{"ts":"2026-11-23","a":1,"b":{"c":2}}',
    b'{"ts":"0001-01-01T00:00:00+23:00","a":1}',
    b'{"ts":"1969-12-31T23:59:59.9999Z","a":1}',
    b'{"ts":"9999-12-31T23:59:59.999Z","a":1}',
    b'{"ts":"x","a":1}',
    b'{"ts":"","a":1}',
    b'{"ts":null,"a":1}',
    b'{"ts":true,"a":1}',
    b'{"ts":{},"a":1}',
    b'{"ts":9007199254740993,"a":1}',
    b'{"ts":9007199254740991,"a":1}',
    b'{"ts":-9007199254740992,"a":1}',
    b'{"ts":17.0,"a":1}',
    b'{"ts":17.5,"a":1}',
    b'{"ts":-1,"a":1}',
    b'{"ts":-0,"a":1}',
    b'{"ts":0,"a":1}',
    b'{"ts":4102444800000,"a":1}',
    # break out of a joined parse
    b"1],[2",
    b"1,2",
    b'{"a":1},{"b":2}',
    b'{"a":1}{"b":2}',
    b'{"a":1',
    b'"b":2}',
    b'[{"a":1',
    b'{"a":2}]',
    b'{"a":"x}',
    b'{"a":"x"',
    b'{a":1}',
    b'{"a:1}',
    b'{"a":1,}',
    b'{,"a":1}',
    b'{"a":1]',
    # nothing much
    b"{}",
    b"[]",
    b"",
    b" ",
    b"null",
    b"17",
    b"-",
    b'"a"',
    b"[1]",
    b"[null]",
    # numbers
    b'{"a":}',
    b'{"a":,"b":5}',
    b'{"a":1.}',
    b'{"a":.5}',
    b'{"a":.}',
    b'{"a":01}',
    b'{"a":-01}',
    b'{"a":-}',
    b'{"a":--1}',
    b'{"a":1-1}',
    b'{"a":1.2.3}',
    b'{"a":+1}',
    b'{"a":1e5}',
    b'{"a":1E-5}',
    b'{"a":1e400}',
    b'{"a":-1e400}',
    b'{"a":-0}',
    b'{"a":-0.0}',
    b'{"a":0}',
    b'{"a":0e0}',
    b'{"a":1/2}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":9007199254740993}',
    b'{"a":9223372036854775807}',
    b'{"a":9223372036854774784}',
    b'{"a":-9223372036854775808}',
    b'{"a":18446744073709551615}',
    b'{"a":18446744073709551616}',
    b'{"a":12345678901234567}',
    b'{"a":0.1234567890123456}',
    b'{"a":123456789012345678901234567890}',
    b'{"a":1 2}',
    b'{"a":tru0}',
    b'{"a":true0}',
    b'{"a":0true}',
    # keys
    b'{"a":1,"a":2}',
    b'{"a":1,"a":"x"}',
    b'{"a":01,"a":2}',
    b'{"a":"x","a":1}',
    b'{"a":{"b":1},"a":2}',
    b'{"ts":1,"a":5,"ts":2}',
    b'{"seq":1,"a":5,"seq":2,"boot":0}',
    b'{"a1":5}',
    b'{"a":15}',
    b'{"a":":5"}',
    b'{"a:1":2}',
    b'{"a:":12}',
    b'{":a":12}',
    b'{"":5}',
    b'{"":{"a":1}}',
    b'{"a":""}',
    b'{"a" :1}',
    b'{"ts" :1,"a":2}',
    b'{"device" :"x","a":2}',
    b'{"a": 1}',
    b'{ "a":1 }',
    b'{"a":"x" }',
    b'{"a":"x","b":"y"}',
    b'{"a":"x":"b"}',
    b'{"k b":1}',
    b'{"a.b":1,"a":{"b":2}}',
    b'{"' + b"k" * 64 + b'":1}',
    b'{"' + b"k" * 65 + b'":1}',
    b'{"a-b_c.D9":1}',
    b'{"a\x7f0":1}',
    # strings
    b'{"a":"0"}',
    b'{"a":"-1.5"}',
    b'{"a":"\xc3\xa9"}',
    b'{"a":"\xff"}',
    b'{"\xff":1}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\x7f0"}',
    b'{"a":"\\u0041"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\u0000"}',
    b'{"a\\"":1}',
    b'{"a":"\\""}',
    b'{"a":"\n"}',
    b'{\n"a":1}',
    b'{"a":1}\x00',
    b'{"a":1} ',
    b'\xef\xbb\xbf{"a":1}',
    # markers of templates
    b'{"a":1000000000}',
    b'{"a":1000000001,"b":1000000000}',
    b'{"ts":18014398509481984,"a":1}',
    b'{"a":1.0,"b":true}',
    # shapes
    b'{"a":true}',
    b'{"a":false,"b":null}',
    b'{"a":[1,2]}',
    b'{"a":[]}',
    b'{"a":{}}',
    b'{"a":[{"b":1}]}',
    b'[{"a":1},{"a":2}]',
    b'[{"a":1,"ts":5},{"b":2}]',
    b'[{"a":1,"ts":5},{"b":2,"ts":"2026-11-23T14:00:00Z"}]',
    b'[{"a":1,"seq":5},{"b":2,"seq":5}]',
    b'[{"a":1,"seq":5},{"b":2,"seq":6}]',
    b'[{"a":1},{"b":2,"seq":6}]',
    b'[{"a":1},{"b":2,"boot":null}]',
    b'[1,{"a":1}]',
    b'[[{"a":1}]]',
    b'[{},{"a":1}]',
    b'{"a":{"b":{"c":{"d":1}}}}',
    b'{"a":{"b":{"c":{"d":{"e":1}}}}}',
    b'{"a":{"ts":5,"seq":6,"boot":7,"device":"x"}}',
    # children
    b'{"device":"child-1","a":1}',
    b'{"device":"dev-1","a":1}',
    b'{"device":"Child 1","a":1}',
    b'{"device":"","a":1}',
    b'{"device":null,"a":1}',
    b'{"device":5,"a":1}',
    b'{"device":"a/b","a":1}',
    b'[{"device":"child-1","a":1},{"device":"child-2","a":1},{"a":"x"}]',
    b'[{"device":"dev-1","a":1},{"device":"child-2","a":1,"ts":"bad"}]',
]
_ALPHABET = b'0123456789.-+eE"{}[],: \\\n/abtrufalsn\xc3\x7f'


def mutated(r: random.Random, payload: bytes) -> bytes:
    """A payload with up to three characters changed, added or taken away."""
    out = bytearray(payload)
    for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
        at, kind = r.randrange(len(out) + 1), r.random()
        if kind < 0.4 and at < len(out):
            out[at] = r.choice(_ALPHABET)
        elif kind < 0.7:
            out.insert(at, r.choice(_ALPHABET))
        elif at < len(out):
            del out[at : at + r.choice([1, 1, 2, 5])]
    return bytes(out)
