"""What the fleet says is understood by access's decoder as the plan means it, and the broken ones are not."""

from typing import Any

import pyarrow as pa
import pytest

from local.fleet import payloads
from local.fleet.plan import Message, Plan, Workload
from local.fleet.population import Form
from local.fleet.publication import Publication
from local.fleet.schedule import Fate, Mix
from schemas import raw
from schemas.vocabulary import Transport
from streams.access.decode import Decoded, Decoder

MIX = Mix(denied=0.05, dead_letters=0.1, duplicates=0.0, reboots=0.0)
WORKLOAD = Workload(devices=200, rate=600, seconds=5, seed=3, boot=9, start_ms=1_700_000_000_000, mix=MIX)


def properties_of(publication: Publication) -> dict[str, str]:
    """The properties, as the bridge would put them into columns."""
    found, rest = {}, publication.properties
    while rest:
        key, at = rest[0], 1
        texts = []
        for _ in range(2 if key == 0x26 else 1):
            size = int.from_bytes(rest[at : at + 2], "big")
            texts.append(rest[at + 2 : at + 2 + size].decode())
            at += 2 + size
        name, value = texts if key == 0x26 else ("content_type", texts[0])
        found[name] = value
        rest = rest[at:]
    return found


def row(plan: Plan, message: Message) -> dict[str, Any]:
    publication = message.publication
    given = properties_of(publication)
    return {
        "device": plan.population.members[message.device].id,
        "topic": publication.topic[2:].decode(),
        "payload": publication.payload,
        "transport": Transport.MQTT,
        "qos": 1,
        "retain": False,
        "received_at": WORKLOAD.start_ms,
    } | {name: given.get(name) for name in ("content_type", "ts", "boot", "seq")}


@pytest.fixture(scope="module")
def decoded() -> tuple[Plan, list[Message], Decoded]:
    plan = Plan(WORKLOAD)
    messages = [message for tick in plan.ticks() for message in tick.messages]
    batch = pa.RecordBatch.from_pylist([row(plan, message) for message in messages], schema=raw.SCHEMA)
    return plan, messages, Decoder().decode(batch)


def test_every_form_is_read_with_all_its_readings(decoded: tuple[Plan, list[Message], Decoded]) -> None:
    plan, messages, found = decoded
    members = plan.population.members
    counts = [0] * len(messages)
    for number in found.row.tolist():
        counts[number] += 1
    forms = set()
    for number, message in enumerate(messages):
        if message.fate is Fate.ACCEPTED:
            member = members[message.device]
            assert number not in found.dead, (member.form, found.dead[number])
            assert counts[number] == payloads.samples_of(member) * 3, member.form
            forms.add(member.form)
    assert forms == set(Form)


def test_the_broken_ones_are_dead_and_still_have_their_names(decoded: tuple[Plan, list[Message], Decoded]) -> None:
    _, messages, found = decoded
    dead = {number for number, message in enumerate(messages) if message.fate is Fate.DEAD_LETTER}
    assert set(found.dead) == dead
    assert len({messages[number].publication.payload for number in dead}) == len(payloads.BROKEN)
    for number in dead:
        assert (found.boot[number], found.seq[number]) == (messages[number].boot, messages[number].seq)


def test_boot_and_seq_are_read_wherever_they_stand(decoded: tuple[Plan, list[Message], Decoded]) -> None:
    _, messages, found = decoded
    for number, message in enumerate(messages):
        assert (found.boot[number], found.seq[number]) == (message.boot, message.seq)


def test_gateways_speak_for_their_children(decoded: tuple[Plan, list[Message], Decoded]) -> None:
    plan, messages, found = decoded
    assert found.child is not None
    parents = {child.id: child.parent for child in plan.population.children}
    spoken = 0
    for number, child in zip(found.row.tolist(), found.child.tolist(), strict=True):
        message = messages[number]
        if child >= 0 and message.fate is Fate.ACCEPTED:
            spoken += 1
            assert parents[found.children[child]] == plan.population.members[message.device].id
    assert spoken


def test_times_are_the_devices_own(decoded: tuple[Plan, list[Message], Decoded]) -> None:
    _, messages, found = decoded
    good = [messages[number].fate is not Fate.DEAD_LETTER for number in found.row.tolist()]
    times = found.time_ms[good]
    assert times.min() < times.max()
    assert WORKLOAD.start_ms - 60_000 <= times.min()
    assert times.max() <= WORKLOAD.start_ms + 5_000


def test_a_forbidden_message_is_well_formed_and_on_a_channel_of_others(
    decoded: tuple[Plan, list[Message], Decoded],
) -> None:
    plan, messages, found = decoded
    forbidden = [(n, m) for n, m in enumerate(messages) if m.fate is Fate.DENIED]
    assert forbidden
    for number, message in forbidden:
        assert number not in found.dead
        member = plan.population.members[message.device]
        channel = message.publication.topic.decode().rpartition("/")[2]
        assert channel == (member.kind.forbidden or member.kind.channel)
