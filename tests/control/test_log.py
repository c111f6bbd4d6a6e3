"""Compare-and-set on platform.control against a real Kafka: writers that are stopped, and two at once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control import decisions
from control.decisions import ChangedMeanwhileError
from identity.registry.store import DeviceRegistry
from local.engines.kafka import Kafka
from local.ports import free
from runtime.errors import MillraceError
from runtime.kafka import topics
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY, Device, device_key, good_key, token_hash
from schemas.errors import ContractError
from schemas.topics import CONTROL
from tests.servers import Server
from tests.support.service import until

CLEANER = "log.cleaner.backoff.ms=200\nlog.cleaner.min.compaction.lag.ms=0\n"
EAGER = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}

CHANGE_ROLE = """
import os, signal, sys
from identity.registry import core
from identity.registry.core import RegistryError
from identity.registry.store import DeviceRegistry
from runtime.settings import KafkaSettings
calls, change_role = 0, core.change_role
def stopping(*arguments):
    global calls
    calls += 1
    found = change_role(*arguments)
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGSTOP)
    return found
core.change_role = stopping
try:
    DeviceRegistry(KafkaSettings(kafka_bootstrap=sys.argv[1])).change_role([sys.argv[3]], "motor")
except RegistryError as error:
    print(error)
else:
    print("changed")
"""
"""`device role` that stops itself after its n-th decision: 1 before it fences others, 2 just before it writes."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    server = Server(Kafka(tmp_path_factory.mktemp("log") / "kafka", *free(2), more=CLEANER))
    server.start()
    try:
        found = KafkaSettings(kafka_bootstrap=server.engine.bootstrap)
        plans = [replace(p, config=p.config | EAGER) if p.name == CONTROL else p for p in topics.plans(2, 1)]
        topics.ensure(found, plans, 1)
        yield found
    finally:
        server.kill()


def newest(settings: KafkaSettings, id: str) -> Device:
    found = DeviceRegistry(settings).device(id)
    assert found is not None
    return found


def compacted(settings: KafkaSettings, key: str) -> None:
    """Wait until the log cleaner has left one record of a key."""

    def once() -> bool:
        produce_confirmed(settings, [NewRecord(CONTROL, b"1", key="heartbeat/roll")])
        with LogReader(settings) as log:
            found = [m.offset() for m in log.records(CONTROL, {0: (OLDEST, NEWEST)}) if m.key() == key.encode()]
        return len(found) == 1

    until(once, 120, f"{key} is compacted")


def stopped(process: "subprocess.Popen[str]") -> bool:
    assert process.poll() is None, process.communicate()
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("with_compaction", [False, True])
@pytest.mark.parametrize("decision", [1, 2])
def test_a_writer_stopped_between_read_and_write_does_not_bring_a_removed_device_back(
    settings: KafkaSettings, decision: int, with_compaction: bool
) -> None:
    name = f"stopped-{decision}-{int(with_compaction)}"
    registry = DeviceRegistry(settings)
    registry.register([Device(name, "meter")])
    code = [sys.executable, "-c", CHANGE_ROLE, settings.kafka_bootstrap, str(decision), name]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as writer:
        try:
            until(lambda: stopped(writer), 60, "the writer has read and decided")
            registry.remove([name])
            assert newest(settings, name) == Device(name, "meter", "removed")
            if with_compaction:
                compacted(settings, device_key(name))
            os.kill(writer.pid, signal.SIGCONT)
            assert writer.communicate(timeout=90)[0] == f"{name}: was removed\n"
        finally:
            writer.kill()
    assert newest(settings, name) == Device(name, "meter", "removed"), "and its token is dead"


def test_two_operators_who_change_a_thousand_devices_at_once_lose_no_update(settings: KafkaSettings) -> None:
    ids = [f"both-{n}" for n in range(1_000)]
    DeviceRegistry(settings).register([Device(name, "meter") for name in ids])
    tokens: dict[str, str] = {}
    wrong: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            wrong.append(error)

    for role in ("motor", "pump"):
        work: list[Callable[[], object]] = [
            lambda role=role: DeviceRegistry(settings).change_role(ids, role),  # type: ignore[misc]
            lambda: tokens.update(DeviceRegistry(settings).renew(ids)),
        ]
        threads = [threading.Thread(target=guarded, args=(call,)) for call in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not wrong
        found = DeviceRegistry(settings).devices()
        assert {found[name].role for name in ids} == {role}
        assert all(found[name].token == token_hash(tokens[name]) for name in ids)


def decode(value: bytes) -> str:
    if value.startswith(b"bad"):
        raise ContractError("bad")
    return value.decode()


def test_a_broken_policy_leaves_the_last_good_one_in_force_after_compaction(settings: KafkaSettings) -> None:
    decisions.publish(settings, POLICY_KEY, b'{"roles":{"meter":{},"motor":{},"pump":{}},"unknown":null}')
    first = decisions.publish(settings, POLICY_KEY, b'{"roles":{"meter":{},"motor":{}},"unknown":null}').answer
    produce_confirmed(settings, [NewRecord(CONTROL, b"bad", key=POLICY_KEY)])
    for again in (False, True):
        found = decisions.in_force(settings, POLICY_KEY, decode)
        assert found is not None and b'"pump"' not in found.text and found.broken == "bad"
        if not again:
            compacted(settings, POLICY_KEY)
            compacted(settings, good_key(POLICY_KEY))
    with pytest.raises(MillraceError, match="no role 'pump'"):
        DeviceRegistry(settings).register([Device("pump-1", "pump")])
    with pytest.raises(ChangedMeanwhileError):
        decisions.publish(settings, POLICY_KEY, b'{"roles":{}}', expected=first)
    decisions.publish(settings, POLICY_KEY, b'{"roles":{"meter":{},"motor":{},"pump":{}},"unknown":null}')
    found = decisions.in_force(settings, POLICY_KEY, decode)
    assert found is not None and b'"pump"' in found.text and found.broken is None


def test_what_an_older_release_published_gets_its_copy_once(settings: KafkaSettings) -> None:
    produce_confirmed(settings, [NewRecord(CONTROL, b"old", key="settings/anomaly")])
    assert decisions.keep_copies(settings, {"settings/anomaly": decode}) == ["settings/anomaly"]
    assert decisions.keep_copies(settings, {"settings/anomaly": decode}) == []
    produce_confirmed(settings, [NewRecord(CONTROL, b"bad", key="settings/anomaly")])
    found = decisions.in_force(settings, "settings/anomaly", decode)
    assert found is not None and (found.value, found.broken) == ("old", "bad")


def test_a_move_names_every_parent_before(settings: KafkaSettings) -> None:
    registry = DeviceRegistry(settings)
    registry.register([Device(name, "meter") for name in ("g1", "g2", "g3")])
    for parent in ("g1", "g2", "g3"):
        registry.register([Device("moved", "meter", parent=parent)])
        if parent != "g3":
            registry.remove(["moved"])
    compacted(settings, device_key("moved"))
    with LogReader(settings) as log:
        (message,) = [m for m in log.records(CONTROL, {0: (OLDEST, NEWEST)}) if m.key() == b"device/moved"]
    assert dict(message.headers() or ())["former"] == b"g1,g2"
    produce_confirmed(settings, [NewRecord(CONTROL, b"{", key=device_key("moved"))])
    registry.register([Device("moved", "meter")])
    with LogReader(settings) as log:
        found = [m for m in log.records(CONTROL, {0: (OLDEST, NEWEST)}) if m.key() == b"device/moved"]
    assert dict(found[-1].headers() or ())["former"] == b"*", "after a broken record nobody knows"
