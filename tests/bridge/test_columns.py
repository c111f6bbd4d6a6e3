"""Rows to records: whatever comes in stands in the record, in order, in records of bounded size."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core import columns, rows
from bridge.core.rows import Properties
from schemas import headers, raw
from schemas.vocabulary import Transport

TEXT = st.one_of(st.none(), st.text(max_size=8).map(str.encode))
ROW = st.tuples(
    st.text(max_size=6).map(str.encode),
    st.text(max_size=12).map(str.encode),
    st.binary(max_size=300),
    st.one_of(st.none(), st.builds(Properties, TEXT, TEXT, TEXT, TEXT, st.booleans())),
    st.builds(rows.flags, st.sampled_from(Transport), st.integers(0, 2), st.booleans()),
    st.integers(0, 4_102_444_800_000),
)


def _flat(messages: list[rows.Row]) -> list[object]:
    return [item for message in messages for item in message]


def _expected(message: rows.Row) -> dict[str, object]:
    device, topic, payload, properties, flags, at = message
    found = properties or Properties()
    return {
        "device": device.decode(),
        "topic": topic.decode(),
        "payload": payload,
        **{key: None if (v := getattr(found, key)) is None else v.decode() for key in Properties._fields[:4]},
        "transport": flags >> 8,
        "qos": flags >> 1 & 3,
        "retain": bool(flags & 1),
        "received_at": datetime.fromtimestamp(at / 1000, UTC),
        "replay_of": None,
    }


def _read(record: columns.Record) -> list[dict[str, object]]:
    found = raw.read(headers.table(headers.raw_data(record.rows)), record.value)
    found.validate(full=True)
    assert found.num_rows == record.rows
    return found.to_pylist()


@settings(deadline=None)
@given(st.lists(st.lists(ROW, max_size=20), min_size=1, max_size=4), st.integers(200, 3000))
def test_every_row_stands_in_a_record_of_its_partition_in_order(messages: list[list[rows.Row]], limit: int) -> None:
    partitions = [_flat(m) for m in messages]
    found = columns.records(partitions, record_bytes=limit, payload_bytes=1000)
    for partition, sent in enumerate(messages):
        got = [row for record in found if record.partition == partition for row in _read(record)]
        assert [{**r, "received_at": None} for r in got] == [{**_expected(m), "received_at": None} for m in sent]
        assert [int(r["received_at"].timestamp() * 1000 + 0.5) for r in got] == [m[5] for m in sent]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_a_record_holds_at_most_its_bytes_or_one_row(sizes: list[int]) -> None:
    flat = _flat([rows.row(b"a", b"d/a/config", bytes(n), None, 0, 0) for n in sizes])
    for record in columns.records([flat], record_bytes=4000, payload_bytes=10_000):
        payload = sum(len(r["payload"]) for r in _read(record))  # type: ignore[arg-type]
        assert record.rows == 1 or payload + record.rows * rows.OVERHEAD_BYTES <= 4000


def test_a_payload_too_long_for_a_record_keeps_its_beginning_and_says_so() -> None:
    long = bytes(range(256)) * 10
    properties = Properties(b"application/json", seq=b"7")
    flat = _flat([rows.row(b"a", b"d/a/config", p, properties, 0, 0) for p in (long, b"ok")])
    (record,) = columns.records([flat], record_bytes=900_000, payload_bytes=2000)
    cut, whole = _read(record)
    assert (cut["payload"], cut["content_type"], cut["seq"]) == (long[:1024], raw.CUT, "7")
    assert (whole["payload"], whole["content_type"]) == (b"ok", "application/json")


def test_bytes_that_are_no_utf8_cannot_break_a_string_column() -> None:
    flat = _flat(
        [rows.row(b"\xff", b"d/\xc3", b"\xff", Properties(b"\xf0\x9f"), 0, 0), rows.row(b"\xa4", b"", b"", None, 0, 0)]
    )
    (record,) = columns.records([flat], record_bytes=900_000, payload_bytes=2000)
    first, second = _read(record)
    assert (first["device"], first["topic"], first["payload"]) == ("�", "d/�", b"\xff")
    assert second["device"] == "�"
