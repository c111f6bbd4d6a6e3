"""Arrow streams of gateways: what they may hold, and that no bytes harm the process."""

import math
import os
import random
from typing import Any

import pyarrow as pa
import pytest

from streams.access.decode import MAX_MESSAGE_READINGS, Decoder
from streams.access.decode.formats.arrow_stream import decode
from streams.access.decode.limits import Invalid
from streams.access.decode.message import NO_TIME
from tests.access.decode.payloads import batch, fates
from tests.access.decode.streams import stream

ARROW = "application/vnd.apache.arrow.stream"


FULL = pa.table(
    {
        "device": pa.array(["child-1", None, "child-2"]),
        "metric": pa.array(["temperature", "temperature", "state"]).dictionary_encode(),
        "time": pa.array([1_700_000_000_000_000, None, -1], pa.timestamp("us", "Europe/Berlin")),
        "value": pa.array([21.5, 22.5, None]),
        "text": pa.array([None, None, "on"], pa.large_string()),
    }
)


def test_every_column_is_read() -> None:
    boot, seq, readings = decode(stream(FULL, FULL), 0)
    assert (boot, seq, len(readings)) == (-1, -1, 6)
    first, second, third = readings[3:]
    assert first == ("temperature", 21.5, None, 1_700_000_000_000, "child-1")
    assert second == ("temperature", 22.5, None, NO_TIME, None)
    assert third[0] == "state" and math.isnan(third[1]) and third[2:] == ("on", -1, "child-2")


@pytest.mark.parametrize(
    ("kind", "time"),
    [
        (pa.timestamp("s"), 2),
        (pa.timestamp("ms"), 2000),
        (pa.timestamp("us", "UTC"), 2_000_999),
        (pa.timestamp("ns"), 2_000_999_999),
        (pa.int64(), 2000),
    ],
    ids=str,
)
def test_times_of_every_unit_are_milliseconds(kind: pa.DataType, time: int) -> None:
    table = {"metric": ["a"], "value": [1.0], "time": pa.array([time], kind)}
    assert decode(stream(table), 0).readings == [("a", 1.0, None, 2000, None)]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_()], ids=str
)
def test_values_of_every_numeric_type_are_read(kind: pa.DataType) -> None:
    table = {"metric": ["a"], "value": pa.array([1.0]).cast(kind)}
    assert decode(stream(table), 0).readings == [("a", 1.0, None, NO_TIME, None)]


def test_a_row_without_value_and_text_says_nothing() -> None:
    table = {"metric": ["a", "b"], "value": [None, 1.0]}
    assert [reading[0] for reading in decode(stream(table), 0).readings] == ["b"]


REFUSED: dict[str, list[dict[str, Any]]] = {
    "shape": [
        {"metric": ["a"]},
        {"value": [1.0]},
        {"metric": [1], "value": [1.0]},
        {"metric": ["a"], "value": ["1"]},
        {"metric": ["a"], "value": [[1.0]]},
        {"metric": ["a"], "value": [1.0], "unit": ["Cel"]},
        {"metric": ["a"], "value": [1.0], "text": ["x"]},
        {"metric": ["a"], "value": [1.0], "time": ["2026-11-23T14:00:00Z"]},
        {"metric": ["a"], "value": pa.array([None], pa.float64())},
        {"metric": pa.array([], pa.string()), "value": pa.array([], pa.float64())},
        {"metric": ["a"] * (MAX_MESSAGE_READINGS + 1), "value": [1.0] * (MAX_MESSAGE_READINGS + 1)},
    ],
    "metric_name": [
        {"metric": ["a b"], "value": [1.0]},
        {"metric": pa.array([None], pa.string()), "value": [1.0]},
        {"metric": ["a/b"], "value": [1.0]},
    ],
    "device": [{"metric": ["a"], "value": [1.0], "device": ["Child 1"]}],
    "number": [{"metric": ["a"], "value": [v]} for v in (math.nan, math.inf, -math.inf, 2.0**63)],
    "ts": [{"metric": ["a"], "value": [1.0], "time": pa.array([1 << 53], pa.int64())}],
}


@pytest.mark.parametrize(("rule", "table"), [(rule, table) for rule, tables in REFUSED.items() for table in tables])
def test_a_stream_that_breaks_a_rule_is_refused_by_that_rule(rule: str, table: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=f"^{rule}: "):
        decode(stream(table), 0)


def test_a_column_that_stands_twice_is_refused() -> None:
    twice = pa.table([pa.array(["a"]), pa.array([1.0]), pa.array([2.0])], names=["metric", "value", "value"])
    with pytest.raises(Invalid, match="shape: duplicate column"):
        decode(stream(twice), 0)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_refused_before_they_are_opened(codec: str) -> None:
    zeros = pa.table({"metric": pa.array(["a"] * 9000).dictionary_encode(), "value": [0.0] * 9000})
    payload = stream(zeros, options=pa.ipc.IpcWriteOptions(compression=codec))
    with pytest.raises(Invalid, match="arrow: compressed"):
        decode(payload, 0)


def test_a_stream_cut_anywhere_is_refused() -> None:
    whole = stream(FULL, FULL)
    for size in range(len(whole)):
        with pytest.raises(Invalid, match="arrow: "):
            decode(whole[:size], 0)
    with pytest.raises(Invalid, match="arrow: there is more"):
        decode(whole + b"\0", 0)


def flipped(seed: int, count: int) -> None:
    """Streams with a few bytes changed are read or refused; nothing else happens."""
    r = random.Random(seed)
    whole = stream(FULL, FULL)
    for _ in range(count):
        payload = bytearray(whole)
        for _ in range(r.choice([1, 1, 2, 8])):
            payload[r.randrange(len(payload))] = r.choice([0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)])
        try:
            assert decode(bytes(payload), 0).readings
        except Invalid:
            continue


def test_streams_with_changed_bytes_are_read_or_refused() -> None:
    flipped(seed=1, count=500)


@pytest.mark.chaos
def test_ten_thousand_streams_with_changed_bytes_are_read_or_refused() -> None:
    flipped(seed=int(os.environ.get("SEED", "1")), count=10_000)


def test_a_gateway_s_stream_is_one_message_among_others() -> None:
    got = Decoder(few=1).decode(
        batch([b'{"a":1}', stream(FULL), stream(FULL)[:-9], b'{"a":2}'], content_type=[None, ARROW, ARROW, None])
    )
    found = fates(got)
    assert [len(fate[2]) for fate in (found[0], found[1], found[3])] == [1, 3, 1]
    assert found[2] == ("arrow: truncated, or no Arrow IPC stream", -1, -1)
    assert list(got.children) == ["child-1", "child-2"]
