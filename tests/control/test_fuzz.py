"""10,000 broken control records, and records of the next version: no service exits, no command ends in a traceback."""

import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from bridge.http.core.credentials import Credentials
from cli.main import millrace
from control import decisions
from control.relay.core import Routing
from identity.registry.store import DeviceRegistry
from local.ports import free
from runtime.errors import MillraceError
from runtime.kafka import applied, clients
from runtime.kafka.log import LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from runtime.stage.contract import Record
from schemas.control import POLICY_KEY, Device, device_key, mark_key, settings_key
from schemas.headers import Version, raw_control
from schemas.topics import CONTROL
from schemas.vocabulary import Kind
from sinks.core.history import _ROWS
from streams.access.core.stage import AccessStage
from streams.access.policy import check, decode, shipped
from streams.aggregate.core.stage import AggregateStage
from streams.anomaly.core.stage import AnomalyStage
from streams.presence.core.stage import PresenceStage
from tests.bridge.processes import Service
from tests.servers import KafkaServer
from tests.support.service import until

RECORDS = 10_000
GOOD = {
    device_key("a"): Device("a", "meter", labels={"x": "y"}, token="00").encode(),
    device_key("b"): Device("b", "meter", parent="a").encode(),
    POLICY_KEY: check(shipped("default"), "default").encode(),
    "good/policy": check(shipped("default"), "default").encode(),
    settings_key("anomaly"): b'{"rules":[]}',
    settings_key("aggregate"): b"{}",
    settings_key("presence"): b"{}",
    mark_key("0011"): b'{"incident":"0011","mark":"confirmed","device":null,"at_ms":5}',
}
NEXT = {
    device_key(
        "next-1"
    ): b'{"id":"next-1","role":"meter","state":"quarantined","parent":null,"labels":{},"token":null}',
    device_key("next-2"): b'{"id":"next-2","role":"meter","state":"active","attested":{"level":3},"token":null}',
    device_key("next-3"): b'{"id":"next-3","roles":["meter"],"state":"active"}',
    POLICY_KEY: b'{"roles":{"meter":{"publish":["telemetry/#"],"attestation":"tpm"}},"unknown":null}',
    mark_key("0022"): b'{"incident":"0022","mark":"needs-review","device":null,"at_ms":5,"by":"console"}',
    "rollout/7": b'{"wave":1}',
}
SCALARS = [None, True, 0, -1, 10**30, 1.5, "", "\x00", "ä" * 300, [], {}, [[]] * 3, {"a": {"b": 1}}]


def fuzzed(random_: random.Random) -> tuple[bytes, bytes | None]:
    """A key and a value, most of them nearly right."""
    key, value = random_.choice(list(GOOD.items()))
    raw_key = key.encode()
    kind = random_.randrange(8)
    if kind == 0:
        return raw_key, random_.randbytes(random_.randrange(60))
    if kind == 1:
        return raw_key, None
    if kind == 2:
        return raw_key, b"[" * random_.randrange(3_000)
    if kind == 3:
        at = random_.randrange(len(value))
        return raw_key, value[:at] + random_.randbytes(1) + value[at + 1 :]
    if kind == 4:
        return random_.randbytes(4) if random_.random() < 0.5 else raw_key[:-1] + b"\xff", value
    body = orjson.loads(value)
    name = random_.choice([*body, "more"])
    if kind == 5:
        body.pop(name, None)
    else:
        body[name] = random_.choice(SCALARS[:4] + SCALARS[5:])
    return raw_key, orjson.dumps(body)


def test_ten_thousand_fuzzed_records_stop_no_core() -> None:
    random_, routing, credentials = random.Random(10), Routing(4), Credentials()
    stages = [kind().create(0) for kind in (AccessStage, AggregateStage, AnomalyStage, PresenceStage)]
    for offset in range(RECORDS):
        raw_key, value = fuzzed(random_)
        key, version = raw_key.decode("utf-8", "replace"), Version(0, offset)
        credentials.apply(raw_key, value)
        relayed = {out.value for out in routing.route(key, value, version, {}).records}
        for text in relayed | {value or b""}:  # as relayed, and as a relay of another release might
            headers = dict(raw_control(version, key))
            for stage in stages:
                stage.apply(Record(offset, offset, 0, 0, Kind.CONTROL, headers | _passed(), text))
            name, _, about = key.partition("/")
            _ROWS.get((name, bool(about)), lambda *_: ("", {}))(key, text)


def _passed() -> dict[str, bytes]:
    """What telemetry.readings has beside."""
    return {"time": b"0"}


@pytest.fixture
def services(spine: KafkaServer, tmp_path: Path) -> Iterator[list[Service]]:
    (listen,) = free()
    found = [
        Service("control.relay", tmp_path, kafka_bootstrap=spine.bootstrap, instance="fuzz"),
        Service(
            "bridge.http", tmp_path, kafka_bootstrap=spine.bootstrap, listen=f"127.0.0.1:{listen}", instance="fuzz"
        ),
    ]
    for service in found:
        service.start()
    yield found
    for service in found:
        service.kill()


def _caught_up(settings: KafkaSettings) -> None:
    with LogReader(settings) as log:
        end = log.bounds(CONTROL, 0)[1]
    admin = clients.admin(settings)

    def all_there() -> bool:
        found = {one.name: one.position for one in applied.readers(admin)}
        return all(found.get(name, -1) >= end for name in ("relay.fuzz", "bridge-http.fuzz"))

    until(all_there, 90, f"relay and bridge-http have applied everything below {end}")


def test_services_and_commands_survive_fuzzed_records_and_those_of_the_next_version(
    spine: KafkaServer, services: list[Service], tmp_path: Path
) -> None:
    settings = KafkaSettings(kafka_bootstrap=spine.bootstrap)
    decisions.publish(settings, POLICY_KEY, GOOD[POLICY_KEY])
    random_ = random.Random(11)
    records = [NewRecord(CONTROL, value, key=key) for key, value in (fuzzed(random_) for _ in range(RECORDS))]
    next_ = [NewRecord(CONTROL, value, key=key, headers=[("format", b"2")]) for key, value in NEXT.items()]
    produce_confirmed(settings, [*records, *next_])
    _caught_up(settings)
    for service in services:
        assert service.process is not None
        assert service.process.poll() is None, service.log.read_text()
        assert "Traceback" not in service.log.read_text()
    in_force = decisions.in_force(settings, POLICY_KEY, decode)
    assert in_force is not None
    environment = {"MILLRACE_KAFKA_BOOTSTRAP": spine.bootstrap, "MILLRACE_WAIT_S": "0"}
    for arguments in (
        ("device", "list", "--all"), ("device", "show", "next-1"), ("device", "role", "next-1", "--role", "meter"),
        ("device", "token", "next-3"), ("device", "remove", "next-1"), ("device", "add", "next-3", "--role", "nobody"),
        ("policy", "show"), ("detector", "show"), ("windows", "show"), ("presence", "settings"),
    ):  # fmt: skip
        result = CliRunner().invoke(millrace, arguments, env=environment)
        assert result.exception is None or isinstance(result.exception, MillraceError | SystemExit), arguments
    found = DeviceRegistry(settings).devices()
    assert (found["next-1"].state, found["next-2"].state, found["next-3"].state) == ("removed", "active", "unknown")
    assert found["next-2"].more == {"attested": {"level": 3}}
