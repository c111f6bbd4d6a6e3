"""Records as lines of JSON, and rows of ClickHouse as records of telemetry.raw."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from operations.records import dump, lines
from operations.replay import RECORD_BYTES, RECORD_ROWS, records, rows
from runtime.errors import RefusedError
from schemas import headers, ipc, raw
from schemas.partition import partition_of
from schemas.topics import RAW

MESSAGE = {
    "device": "a-1",
    "topic": "d/a-1/telemetry/climate",
    "payload": b'{"t":1}',
    "content_type": None,
    "ts": None,
    "boot": "1",
    "seq": "2",
    "transport": 0,
    "qos": 1,
    "retain": False,
    "received_at": datetime(2026, 1, 31, 12, 0, 0, 123_000, UTC),
    "replay_of": None,
}


def batch(*changes: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([MESSAGE | change for change in changes], schema=raw.SCHEMA)


def test_rows_name_their_place_and_leave_nulls_out() -> None:
    value = ipc.encode(batch({}, {"payload": b"\xff"}))
    found = list(lines(RAW, 3, 7, None, headers.raw_data(2), value))
    assert dump(found[0]) == (
        b'{"partition":3,"offset":7,"row":0,"device":"a-1","topic":"d/a-1/telemetry/climate","payload":"{\\"t\\":1}",'
        b'"boot":"1","seq":"2","transport":"mqtt","qos":1,"retain":false,"received_at":"2026-01-31T12:00:00.123000Z"}'
    )
    assert found[1]["payload_base64"] == "/w=="


def test_ticks_and_control_records_come_only_when_asked() -> None:
    tick = (RAW, 0, 0, None, headers.raw_tick(5), b"")
    assert list(lines(*tick)) == [
        {"partition": 0, "offset": 0, "kind": "tick", "schema": "telemetry.raw/1", "time": "5"}
    ]
    assert list(lines(*tick, with_all=False)) == []
    control = headers.raw_control(headers.Version(0, 9), "policy")
    (found,) = lines(RAW, 0, 1, None, control, b'{"roles":{}}')
    assert (found["kind"], found["key"], found["value"]) == ("control", "policy", {"roles": {}})


def test_a_record_that_cannot_be_read_is_one_line_with_the_error() -> None:
    newer = [(key, b"telemetry.raw/99" if key == "schema" else value) for key, value in headers.raw_data(1)]
    (found,) = lines(RAW, 0, 0, None, newer, b"")
    assert "this reader knows up to telemetry.raw/1" in found["error"]


def test_a_topic_without_rows_shows_key_and_value() -> None:
    (found,) = lines("platform.control", 0, 4, b"device/a", [], b'{"id":"a"}')
    assert found == {"partition": 0, "offset": 4, "key": "device/a", "value": {"id": "a"}}
    (gone,) = lines("platform.control", 0, 5, b"device/a", [], None)
    assert gone["value"] is None
    (state,) = lines("state.access", 0, 6, b"0/a", [], b"\x00\x01")
    assert state["value_bytes"] == 2


def page(count: int = 1, **changes: Any) -> pa.Table:
    row = {
        "device": b"a-1", "topic": b"d/a-1/telemetry/climate", "payload": b"\xff", "content_type": None, "ts": None,
        "boot": b"1", "seq": None, "received_at": 1_769_860_800_123,
        "raw_epoch": 0, "raw_partition": 2, "raw_offset": 11, "raw_row": 5,
    } | changes  # fmt: skip
    return pa.Table.from_pylist([row] * count)


def test_a_replayed_row_is_the_message_as_it_came_with_the_name_of_the_first() -> None:
    (found,) = rows(page()).to_pylist()
    assert found == MESSAGE | {"payload": b"\xff", "seq": None, "replay_of": "0/2/11/5"}


def test_a_row_that_lost_its_topic_is_refused() -> None:
    with pytest.raises(RefusedError, match="no topic"):
        rows(page(topic=None))


def test_rows_go_to_the_partition_of_their_publisher_in_records_that_are_small_enough() -> None:
    half = b"x" * (RECORD_BYTES // 2)
    big = rows(page(3, payload=half))
    assert [(p, b.num_rows) for p, b in records(big, 4)] == [(partition_of(b"a-1", 4), n) for n in (2, 1)]
    many = rows(page(RECORD_ROWS + 1))
    assert [b.num_rows for _, b in records(many, 4)] == [RECORD_ROWS, 1]
    mixed = rows(pa.concat_tables([page(2), page(1, device=b"b-2"), page(1)]))
    found = {p: b.column("device").to_pylist() for p, b in records(mixed, 1_000)}
    assert found == {partition_of(b"a-1", 1_000): ["a-1"] * 3, partition_of(b"b-2", 1_000): ["b-2"]}
