import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import aggregates, anomalies, headers, incidents, ipc, presence, raw, readings
from schemas.control import (
    Device,
    Mark,
    TopicFacts,
    device_key,
    device_of,
    is_relayed,
    mark_key,
    read_device,
    settings_key,
    topic_key,
)
from schemas.errors import ContractError, NewerSchemaError
from schemas.topics import parse_platform, parse_uplink, platform_topic, telemetry_topic
from schemas.vocabulary import Kind

EXAMPLES = Path(__file__).parent / "examples"
MODULES = {module.NAME: module for module in (raw, readings, aggregates, anomalies, incidents, presence)}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.hex")), ids=lambda f: f.stem)
def test_every_stored_version_can_be_read(file: Path) -> None:
    name, _, version = file.stem.rpartition("-")
    batch = MODULES[name].read({"schema": f"{name}/{version}".encode()}, bytes.fromhex(file.read_text()))
    assert batch.schema.equals(MODULES[name].SCHEMA)
    assert batch.to_pylist()[0]["device"] == "sensor-1"


@pytest.mark.parametrize("module", MODULES.values(), ids=lambda m: m.NAME)
def test_each_version_has_a_stored_example(module: object) -> None:
    for version in range(1, module.VERSION + 1):  # type: ignore[attr-defined]
        assert (EXAMPLES / f"{module.NAME}-{version}.hex").exists()  # type: ignore[attr-defined]


def test_a_newer_version_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(NewerSchemaError, match=r"telemetry.raw/2.*upgrade"):
        raw.read({"schema": b"telemetry.raw/2"}, b"")


@pytest.mark.parametrize("text", [b"", b"telemetry.raw", b"telemetry.raw/0", b"telemetry.raw/x", b"other/1"])
def test_an_unknown_schema_is_refused(text: bytes) -> None:
    with pytest.raises(ContractError, match="schema"):
        raw.read({"schema": text}, b"")


def test_an_older_version_gets_nulls_for_what_it_did_not_have() -> None:
    old = pa.RecordBatch.from_pydict({"a": pa.array([1], pa.int32())})
    new = pa.schema([("a", pa.int64()), ("b", pa.string())])
    batch = ipc.read({"schema": b"t/1"}, ipc.encode(old), new, "t", 2)
    assert batch.to_pylist() == [{"a": 1, "b": None}]


ONLY = ipc.Columns(readings.SCHEMA, ("publisher", "device", "value"))


@pytest.mark.parametrize("version", [1, 2])
def test_some_columns_are_those_of_all(version: int) -> None:
    value = bytes.fromhex((EXAMPLES / f"telemetry.readings-{version}.hex").read_text())
    found = {"schema": f"telemetry.readings/{version}".encode()}
    some = readings.read(found, value, ONLY)
    assert some.schema.names == ["device", "publisher", "value"]
    assert some.equals(readings.read(found, value).select(some.schema.names))


def test_some_columns_of_what_breaks_the_contract_are_refused() -> None:
    other = ipc.encode(pa.RecordBatch.from_pydict({f.name: pa.array([1]) for f in readings.SCHEMA}))
    for value in (other, ipc.encode(pa.RecordBatch.from_pydict({"a": pa.array([1])})), b"", b"garbage" * 9):
        with pytest.raises(ContractError):
            readings.read({"schema": b"telemetry.readings/2"}, value, ONLY)
    with pytest.raises(NewerSchemaError):
        readings.read({"schema": b"telemetry.readings/9"}, other, ONLY)


def test_a_stream_of_several_batches_is_one() -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1, 2], pa.int32())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(3):
            writer.write_batch(batch)
    assert ipc.decode(bytes(sink.getvalue())).to_pydict() == {"a": [1, 2] * 3}
    with pytest.raises(ContractError):
        ipc.decode(ipc.head(batch.schema) + ipc.END)


@given(st.binary(max_size=400))
def test_garbage_is_a_contract_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ContractError):
        raw.read({"schema": b"telemetry.raw/1"}, data)


@given(st.integers(0, 300))
def test_a_truncated_stream_is_a_contract_error(cut: int) -> None:
    whole = bytes.fromhex((EXAMPLES / "telemetry.raw-1.hex").read_text())
    with pytest.raises(ContractError):
        raw.read({"schema": b"telemetry.raw/1"}, whole[: len(whole) - 9 - cut])


def test_counts_and_provenance_survive_their_headers() -> None:
    counts = headers.Counts(*range(9))
    head = headers.ReadingsHeaders(Kind.DATA, 5, counts).encode() + headers.Provenance(2, 7, 6).encode()
    found = headers.table(head)
    assert headers.Counts.parse(found) == counts
    assert headers.Provenance.parse(found) == headers.Provenance(2, 7, 6)
    assert headers.kind_of(found) is Kind.DATA


@pytest.mark.parametrize("found", [{}, {"src": b"1", "prev": b"0"}, {"src": b"1/x", "prev": b"0"}, {"src": b"1/2"}])
def test_broken_provenance_is_a_contract_error(found: dict[str, bytes]) -> None:
    with pytest.raises(ContractError):
        headers.Provenance.parse(found)


def test_a_duplicate_header_is_rejected() -> None:
    with pytest.raises(ContractError, match="duplicate key"):
        headers.table([("src", b"1"), ("src", b"2")])


def test_versions_order_by_epoch_then_offset() -> None:
    assert headers.Version(1, 0) > headers.Version(0, 99) > headers.Version(0, 3)
    assert headers.Version.parse(headers.Version(3, 4).encode()) == headers.Version(3, 4)


def test_uplinks_are_parsed() -> None:
    assert parse_uplink(telemetry_topic("a-1", "climate")).names == ("climate",)
    assert parse_uplink("d/a/config").branch == "config"
    assert parse_uplink("d/a/control/motor-7/stop").names == ("motor-7", "stop")


@pytest.mark.parametrize(
    "topic",
    ["", "d", "d/a", "x/a/telemetry/c", "d/A/telemetry/c", "d//telemetry/c", "d/a/telemetry", "d/a/telemetry/",
     "d/a/telemetry/c/d", "d/a/other/c", "d/a/config/x", "d/a+/telemetry/c", "d/" + "a" * 65 + "/telemetry/c"],
)  # fmt: skip
def test_a_topic_outside_the_grammar_is_refused(topic: str) -> None:
    with pytest.raises(ContractError, match="topic"):
        parse_uplink(topic)


def test_devices_and_topic_facts_survive_their_encoding() -> None:
    device = Device("a-1", "motor", labels={"site": "x"}, token="00")
    assert Device.decode(device_key("a-1"), device.encode()) == device
    assert Device.decode(device_key("a-1"), device.encode(with_token=False)).token is None
    facts = TopicFacts("id", 1, 4)
    assert TopicFacts.decode(topic_key("t"), facts.encode()) == facts


_BROKEN = (
    b"", b"[]", b"{}", b"\xff", b'{"id":"b","role":"r"}', b'{"id":"a","role":5}', b'{"id":"a","role":"r","labels":[1]}',
    b'{"id":"a","role":"r","labels":{"x":1}}', b'{"id":"a","role":"r","parent":7}',
    b'{"id":"a","role":"r","parent":"NO"}',
    b'{"id":"a","role":"r","state":7}', b'{"id":"a","role":"r","state":""}', b'{"id":"a","role":"r","token":1}',
    b'{"id":"a","role":"r","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
)  # fmt: skip


@pytest.mark.parametrize("value", _BROKEN)
def test_a_broken_device_record_is_a_contract_error_and_denied(value: bytes) -> None:
    with pytest.raises(ContractError, match="device/a"):
        Device.decode("device/a", value)
    device, broken = read_device("device/a", value)
    assert not device.is_active and device.id == "a" and (broken is None) == (value == b"")


def test_fields_of_the_next_version_survive_a_change_by_this_one() -> None:
    value = b'{"id":"a","role":"r","state":"active","attested":{"by":["tpm",1.5,null]},"generation":9007199254740993}'
    found = Device.decode("device/a", value)
    assert orjson.loads(replace(found, role="s").encode()) == orjson.loads(value) | {
        "role": "s", "parent": None, "labels": {}, "token": None,
    }  # fmt: skip


@given(st.binary(max_size=40), st.text(max_size=8))
def test_any_bytes_give_a_value_or_a_contract_error(value: bytes, about: str) -> None:
    for cls, key in ((Device, device_key(about)), (Mark, mark_key(about)), (TopicFacts, topic_key(about))):
        with contextlib.suppress(ContractError):
            cls.decode(key, value)
    assert not read_device(device_key(about), value)[0].is_active


def test_only_policy_and_devices_are_relayed() -> None:
    assert [is_relayed(k) for k in ("policy", "device/a", "topic/x", "heartbeat/r")] == [True, True, False, False]
    assert (device_of("device/a"), device_of("policy")) == ("a", None)


def test_counts_of_a_record_before_events_have_none() -> None:
    found = headers.table(headers.Counts(3, 2, 1).encode())
    del found["events"]
    assert headers.Counts.parse(found) == headers.Counts(3, 2, 1)


def test_derived_headers_carry_counts_by_name() -> None:
    head = headers.table(headers.DerivedHeaders("telemetry.aggregates/1", Kind.TICK, 9, 2, (("open", 5),)).encode())
    assert headers.kind_of(head) is Kind.TICK
    assert [headers.number(head, name) for name in ("time", "rows", "open")] == [9, 2, 5]


@pytest.mark.parametrize("event", ["connected", "disconnected"])
def test_platform_topics_name_device_and_event(event: Literal["connected", "disconnected"]) -> None:
    assert parse_platform(platform_topic("sensor-1", event)) == ("sensor-1", event)
    with pytest.raises(ContractError):
        parse_platform(f"d/sensor-1/{event}")


def test_a_mark_is_relayed_and_names_its_incident() -> None:
    mark = Mark("00112233445566ff", "false-alarm", "sensor-1", 5)
    key = mark_key(mark.incident)
    assert Mark.decode(key, mark.encode()) == mark
    assert is_relayed(key) and is_relayed(settings_key("anomaly"))
    for wrong in (b"{}", b'{"incident":"x","mark":"confirmed","device":null,"at_ms":1}', b"[]", b"{"):
        with pytest.raises(ContractError):
            Mark.decode(key, wrong)
