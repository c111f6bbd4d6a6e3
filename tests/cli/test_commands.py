"""The commands on a running platform: the fleet, files of the past, tail, trace, replay."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.context import settings
from cli.demo_report import grown
from cli.main import millrace
from identity.registry.store import DeviceRegistry
from local.fleet import enrol, payloads
from local.fleet.connections import Connections, Endpoints
from local.fleet.publication import Publication
from local.fleet.settings import FleetSettings
from operations.doctor.judge import TICK_LATE_S
from runtime.errors import MillraceError, RefusedError
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.mqtt.wire import binary
from runtime.settings import KafkaSettings
from schemas.control import Device, device_key
from schemas.topics import RAW
from tests.chaos.running import Running

DEADLINE_S = 60.0
Call = Callable[..., str]


def publish(platform: Running, device: str, channel: str, *bodies: bytes) -> None:
    """Messages of a device that is registered, acknowledged by the broker; boot 1, seq from 0."""
    found = settings(FleetSettings, platform.data)
    topic = binary(f"d/{device}/telemetry/{channel}".encode())
    sent = [Publication(topic, payloads.identity(1, seq), body) for seq, body in enumerate(bodies)]

    async def run() -> None:
        async with Connections(Endpoints(found.device_mqtt_url or "", {}), [device], {}, frozenset()) as connections:
            connections.send(device, sent)
            await connections.done()

    asyncio.run(run())


def register(platform: Running, device: str, role: str) -> None:
    enrol.register(settings(FleetSettings, platform.data), [Device(device, role)])


def settled(platform: Running, received: int) -> dict[str, dict[str, int]]:
    """The ledger when it knows of `received` messages and nothing is in flight."""
    client = platform.clickhouse()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        names = client.query("SELECT * FROM ledger")
        found = {name: int(n) for name, n in zip(names.column_names, names.result_rows[0], strict=True)}
        if found["received"] >= received and not found["in_flight"] and not found["readings_in_flight"]:
            readings = {"stored": found["readings_stored"], "difference": found["readings_difference"]}
            return {"messages": found, "readings": readings}
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_every_message_of_a_fleet_meets_the_fate_that_was_planned(platform: Running, call: Call) -> None:
    before = settled(platform, 0)
    told = json.loads(call("fleet", "simulate", "--devices", "80", "--rate", "400", "--seconds", "3", "--json"))
    expected = told["expected"]
    assert told["complete"]
    assert told["sent"] == {fate: expected[fate] for fate in told["sent"]}
    after = settled(platform, before["messages"]["received"] + expected["messages"])
    found = grown(before, after)
    assert found == {
        "received": expected["messages"],
        "accepted": expected["accepted"],
        "denied": expected["denied"],
        "dead_lettered": expected["dead_letters"],
        "duplicates": expected["duplicates"],
        "readings": expected["readings"],
    }
    assert after["messages"]["difference"] == after["readings"]["difference"] == 0
    assert expected["denied"] and expected["dead_letters"] and expected["duplicates"]


def test_the_truth_about_the_faults_is_written(call: Call, tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    call("fleet", "simulate", "--devices", "40", "--rate", "40", "--seconds", "0.5", "--truth", str(truth))
    labels = lines(truth.read_text())
    assert {"device", "metric", "fault", "from_ms", "to_ms", "size"} == set(labels[0])


def test_a_device_of_another_role_is_not_taken_over(platform: Running, refused: Callable[..., Exception]) -> None:
    register(platform, "motor-00019", "meter")
    try:
        error = refused("fleet", "simulate", "--devices", "100", "--seconds", "1")
        assert isinstance(error, RefusedError)
        assert "motor-00019 is enrolled with role meter" in str(error)
    finally:
        DeviceRegistry(settings(KafkaSettings, platform.data)).remove(["motor-00019"])


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    (folder / "Mill A").mkdir(parents=True)
    rows = "".join(f"2014-04-01 00:{i // 60:02}:{i % 60:02},{i / 7!r}\n" for i in range(600))
    (folder / "Mill A" / "flow_rate.csv").write_text("timestamp,value\n" + rows)
    repeats = "2014-07-30 15:30:00,1.1\n2014-07-30 15:30:00,1.1\n2014-07-30 15:30:00,0.30000000000000004\n"
    (folder / "level.csv").write_text("timestamp,value\n" + repeats)
    return folder


def test_files_of_the_past_are_stored_exactly(platform: Running, call: Call, history: Path) -> None:
    told = json.loads(call("fleet", "replay", str(history), "--json"))
    assert (told["files"], told["rows"], told["skipped"]) == (2, 603, 0)
    client = platform.clickhouse()
    query = "SELECT toUnixTimestamp64Milli(time), value FROM readings WHERE device = '{}' AND metric = 'value'"
    flow = client.query(query.format("mill-a-flow-rate")).result_rows
    assert Counter(flow) == Counter((1_396_310_400_000 + i * 1000, i / 7) for i in range(600))
    level = Counter(client.query(query.format("level")).result_rows)
    assert level == {(1_406_734_200_000, 1.1): 2, (1_406_734_200_000, 0.30000000000000004): 1}


def test_a_file_at_a_speed_takes_its_time(call: Call, history: Path) -> None:
    file = history / "Mill A" / "flow_rate.csv"
    told = json.loads(call("fleet", "replay", str(file), "--speed", "600", "--json"))
    assert told["rows"] == 600
    assert told["send_s"] >= 599 / 600
    assert told["messages"] > 5


def test_tail_prints_rows_of_raw_and_of_readings(platform: Running, call: Call) -> None:
    register(platform, "tail-1", "temperature-sensor")
    publish(platform, "tail-1", "climate", b'{"temperature":21.5}', b"\xff\xfe")
    settled(platform, 1)
    found = lines(call("tail", RAW, "--from-beginning", "--no-follow"))
    raw = [r for r in found if r.get("device") == "tail-1" and r["transport"] != "platform"]  # without the connect
    assert [r.get("payload", r.get("payload_base64")) for r in raw] == ['{"temperature":21.5}', "//4="]
    assert raw[0]["transport"] == "mqtt"
    assert raw[0]["boot"] == "1"
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answers = lines(call("tail", "telemetry.readings", "--from-beginning", "--no-follow"))
        mine = [r for r in answers if r["publisher"] == "tail-1" and r["verdict"] != "event"]
        if len(mine) == 2:
            break
        assert time.monotonic() < deadline
    assert (mine[0]["verdict"], mine[0]["metric"], mine[0]["value"]) == ("accepted", "temperature", 21.5)
    assert mine[1]["verdict"] == "dead_letter"


def test_tail_shows_ticks_and_control_records_when_asked_and_ends_after_n(call: Call) -> None:
    followed = lines(call("tail", RAW, "--all", "-n", "2"))
    assert len(followed) == 2
    everything = lines(call("tail", RAW, "--from-beginning", "--all", "--no-follow"))
    kinds = {r.get("kind", "data") for r in everything}
    assert kinds == {"tick", "control", "data"}
    assert any(r.get("key") == "policy" for r in everything)


def test_tail_of_other_topics(call: Call, refused: Callable[..., Exception]) -> None:
    control = lines(call("tail", "platform.control", "--from-beginning", "--no-follow"))
    assert any(r["key"] == "topic/telemetry.raw" for r in control)
    assert "there is no topic 'nothing.here'" in str(refused("tail", "nothing.here", "--no-follow"))


def test_trace_leads_from_a_reading_to_the_bytes(platform: Running, call: Call) -> None:
    register(platform, "trace-1", "temperature-sensor")
    first_ms = int(time.time() - 3600) * 1000
    bodies = [b'{"ts":%d,"temperature":%d.5,"humidity":40}' % (first_ms + i * 1000, i) for i in range(3)]
    publish(platform, "trace-1", "climate", *bodies)
    wait_for(platform, "readings", "trace-1", 6)
    found = json.loads(call("trace", "trace-1", "--json"))
    assert found["fate"] == "accepted"
    assert found["message"]["payload"].encode() == bodies[2]
    assert {(r["metric"], r["value"]) for r in found["readings"]} == {("temperature", 2.5), ("humidity", 40.0)}
    assert (found["boot"], found["seq"]) == (1, 2)
    stages = [found["times"][s][:23] for s in ("received", "telemetry.raw", "telemetry.readings", "stored")]
    assert stages == sorted(stages)
    at = datetime.fromtimestamp(first_ms / 1000 + 1.4, UTC).isoformat()
    earlier = json.loads(call("trace", "trace-1", "--at", at, "--json"))
    assert earlier["message"]["payload"].encode() == bodies[1]
    assert "d/trace-1/telemetry/climate" in call("trace", "trace-1")


def test_trace_shows_why_a_message_was_refused(
    platform: Running, call: Call, refused: Callable[..., Exception]
) -> None:
    register(platform, "trace-2", "temperature-sensor")
    publish(platform, "trace-2", "climate", b"not json")
    wait_for(platform, "dead_letters", "trace-2", 1)
    found = json.loads(call("trace", "trace-2", "--json"))
    assert found["fate"] == "dead letter"
    assert found["reason"].startswith("json: ")
    assert found["message"]["payload"] == "not json"
    assert isinstance(error := refused("trace", "trace-nobody"), MillraceError)
    assert "nothing of trace-nobody is stored" in str(error)


def wait_for(platform: Running, table: str, device: str, count: int) -> None:
    client, deadline = platform.clickhouse(), time.monotonic() + DEADLINE_S
    while client.command(f"SELECT count() FROM {table} WHERE publisher = '{device}'") != count:
        assert time.monotonic() < deadline, f"{device}: never {count} rows in {table}"
        time.sleep(0.1)


def in_band(platform: Running, device: str, count: int) -> None:
    """Wait until telemetry.raw holds so many control records of a device."""
    deadline = time.monotonic() + DEADLINE_S
    key = ("key", device_key(device).encode())
    with LogReader(settings(KafkaSettings, platform.data)) as reader:
        while True:
            found = reader.records(RAW, dict.fromkeys(reader.partitions(RAW), (OLDEST, NEWEST)))
            if sum(key in (message.headers() or ()) for message in found) >= count:
                return
            assert time.monotonic() < deadline


def test_what_was_denied_goes_through_after_the_fix_and_never_twice(platform: Running, call: Call) -> None:
    register(platform, "clerk-1", "motor")
    publish(platform, "clerk-1", "climate", *(b'{"temperature":%d}' % i for i in range(5)))
    wait_for(platform, "denied", "clerk-1", 5)
    words = ("replay", "denied", "--since", "1h", "--reason", "channel", "--device", "clerk-1", "--json")
    assert json.loads(call(*words, "--dry-run")) == {"found": {"channel": 5}, "left_out": 0, "sent": 0}
    DeviceRegistry(settings(KafkaSettings, platform.data)).change_role(["clerk-1"], "temperature-sensor")
    in_band(platform, "clerk-1", 2)
    before = settled(platform, 0)
    assert json.loads(call(*words))["sent"] == 5
    wait_for(platform, "readings", "clerk-1", 5)
    again = settled(platform, before["messages"]["received"] + 5)
    assert again["messages"]["replayed"] == before["messages"]["replayed"] + 5
    assert json.loads(call(*words))["sent"] == 5
    deadline = time.monotonic() + DEADLINE_S  # the ledger may not include the last replays yet when it is settled
    wanted = before["messages"]["duplicates"] + 5
    while (after := settled(platform, before["messages"]["received"] + 10))["messages"]["duplicates"] < wanted:
        assert time.monotonic() < deadline, after
    assert after["messages"]["duplicates"] == wanted
    assert after["messages"]["difference"] == after["readings"]["difference"] == 0
    stored = platform.clickhouse().query("SELECT value, seq, replay_of FROM readings WHERE device = 'clerk-1'")
    assert sorted((value, seq) for value, seq, _ in stored.result_rows) == [(float(i), i) for i in range(5)]
    assert all(replay_of for *_, replay_of in stored.result_rows)


def test_bytes_of_dead_letters_are_replayed_as_they_came(platform: Running, call: Call) -> None:
    register(platform, "clerk-2", "meter")
    publish(platform, "clerk-2", "meter", b"\xff\x00\xfe", b"")
    wait_for(platform, "dead_letters", "clerk-2", 2)
    assert json.loads(call("replay", "dead-letters", "--since", "1h", "--device", "clerk-2", "--json"))["sent"] == 2
    wait_for(platform, "dead_letters", "clerk-2", 4)
    rows = platform.clickhouse().query(
        "SELECT hex(payload), isNull(replay_of), received_at, boot, seq FROM dead_letters WHERE device = 'clerk-2'"
    )
    first, again = (sorted(r[:1] + r[2:] for r in rows.result_rows if r[1] == original) for original in (1, 0))
    assert first == again
    assert {payload for payload, *_ in first} == {"FF00FE", ""}


def test_the_doctor_finds_a_running_platform_well_and_a_stopped_relay_not(platform: Running) -> None:
    def findings() -> dict[str, set[str]]:
        done = CliRunner().invoke(millrace, ["doctor", "--json", "--data", str(platform.data)], catch_exceptions=False)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        found = {level: {row["check"] for row in rows if row["level"] == level} for level in ("ok", "wrong")}
        assert done.exit_code == (1 if found["wrong"] else 0)
        return found

    platform.wait_ready()
    well = findings()
    assert not well["wrong"]
    assert well["ok"] >= {"services", "reachability", "certificates", "topics", "time", "clock", "lag", "migrations",
                          "policies", "versions", "disk", "ledger"}  # fmt: skip
    assert platform.signal("relay", signal.SIGSTOP)
    try:
        time.sleep(TICK_LATE_S + 1)
        assert "time" in findings()["wrong"]
    finally:
        platform.signal("relay", signal.SIGCONT)
