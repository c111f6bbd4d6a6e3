"""The plan of a fleet: the same for the same seed, with exactly the fates that it promises."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.fleet import faults, payloads
from local.fleet.plan import Message, Plan, Workload
from local.fleet.population import CHILDREN, Form, build
from local.fleet.schedule import Clock, Cycle, Fate, Mix, Schedule
from schemas.topics import is_device_id
from schemas.vocabulary import Role

START_MS = 1_700_000_000_000
WORKLOAD = Workload(devices=200, rate=500, seconds=20, seed=7, boot=1_700_000_000, start_ms=START_MS)
WORKLOADS = st.builds(
    Workload,
    devices=st.integers(1, 300),
    rate=st.sampled_from([1.0, 7.3, 400.0]),
    seconds=st.sampled_from([0.5, 4.7]),
    seed=st.integers(0, 2**31),
    boot=st.just(5),
    start_ms=st.just(START_MS),
    factor=st.sampled_from([1.0, 60.0]),
)


def all_of(plan: Plan) -> list[Message]:
    return [message for tick in plan.ticks() for message in tick.messages]


def test_the_same_workload_gives_the_same_bytes() -> None:
    assert all_of(Plan(WORKLOAD)) == all_of(Plan(WORKLOAD))
    assert Plan(WORKLOAD).labels() == Plan(WORKLOAD).labels()


def test_another_seed_gives_other_bytes() -> None:
    assert all_of(Plan(WORKLOAD)) != all_of(Plan(replace(WORKLOAD, seed=8)))


def test_shares_are_exact() -> None:
    expected = Plan(WORKLOAD).expected()
    mix = WORKLOAD.mix
    assert expected.messages == 10_000
    # two lanes, each rounded down
    assert expected.denied == pytest.approx(mix.denied * 10_000, abs=2)
    assert expected.dead_letters == pytest.approx(mix.dead_letters * 10_000, abs=2)
    assert expected.duplicates == pytest.approx(mix.duplicates * 10_000, abs=2)
    assert expected.reboots == pytest.approx(mix.reboots * 10_000, abs=2)


@settings(max_examples=12, deadline=None)
@given(WORKLOADS)
def test_what_is_sent_is_what_is_expected(workload: Workload) -> None:
    plan = Plan(workload)
    found, expected = all_of(plan), plan.expected()
    by_fate = Counter(message.fate for message in found)
    assert len(found) == expected.messages == workload.messages
    assert by_fate[Fate.ACCEPTED] == expected.accepted
    assert by_fate[Fate.DENIED] == expected.denied
    assert by_fate[Fate.DEAD_LETTER] == expected.dead_letters
    assert by_fate[Fate.DUPLICATE] == expected.duplicates


@settings(max_examples=12, deadline=None)
@given(WORKLOADS)
def test_seq_counts_up_within_a_boot_and_a_duplicate_repeats_the_message_before(workload: Workload) -> None:
    last: dict[int, Message] = {}
    for message in all_of(Plan(workload)):
        before = last.get(message.device)
        if message.fate is Fate.DUPLICATE:
            assert before is not None
            assert message[2:] == before[2:]
            continue
        if before is None:
            assert (message.boot, message.seq) == (workload.boot, 0)
        elif message.boot == before.boot:
            assert message.seq == before.seq + 1
        else:
            assert (message.boot, message.seq) == (before.boot + 1, 0)
        last[message.device] = message


def test_devices_with_http_send_no_broken_messages_and_no_properties() -> None:
    plan = Plan(WORKLOAD)
    by_http = {i for i, m in enumerate(plan.population.members) if m.http}
    found = [message for message in all_of(plan) if message.device in by_http]
    assert found
    assert all(message.fate is not Fate.DEAD_LETTER and not message.publication.properties for message in found)


def test_ticks_are_due_at_the_rate() -> None:
    count = 0
    for tick in Plan(WORKLOAD).ticks():
        count += len(tick.messages)
        assert count == pytest.approx(tick.due_ms / 1000 * WORKLOAD.rate, abs=2)


def test_a_device_that_dropped_out_is_silent() -> None:
    plan = Plan(replace(WORKLOAD, devices=400))
    silent = [label for label in plan.labels() if label.fault == "drop_out"]
    assert silent
    ids = [m.id for m in plan.population.members]
    spoke = defaultdict(list)
    for message in all_of(plan):
        if message.publication.payload.startswith(b'{"ts":1'):
            spoke[ids[message.device]].append(int(message.publication.payload[6:19]))
    for label in silent:
        assert not [time for time in spoke[label.device] if label.from_ms <= time < label.to_ms]


def test_a_stuck_sensor_repeats_itself_and_a_spike_is_far_off() -> None:
    population = build(100)
    found = faults.draw(population, 0, 10_000_000, np.random.default_rng(1))
    values = np.random.default_rng(2).standard_normal((100, 3))
    changed, held = values.copy(), np.full((100, 3), 42.0)
    everybody = np.arange(100)
    found.apply(everybody, (found.from_ms + found.to_ms) // 2, changed, held)
    for kind, fault in zip(found.fault.tolist(), range(100), strict=True):
        metric = found.metric[fault]
        if kind == faults.Fault.STUCK:
            assert changed[fault, metric] == 42.0
        elif kind == faults.Fault.SPIKE:
            assert changed[fault, metric] == pytest.approx(values[fault, metric] + found.size[fault])
        elif kind == faults.Fault.DRIFT:
            assert changed[fault, metric] == pytest.approx(values[fault, metric] + found.size[fault] / 2, rel=1e-3)
        elif kind == faults.Fault.NONE:
            assert (changed[fault] == values[fault]).all()


def test_labels_name_devices_metrics_and_times_inside_the_run() -> None:
    plan = Plan(WORKLOAD)
    labels = plan.labels()
    members = {m.id: m for m in plan.population.members}
    assert {label.fault for label in labels} == {"spike", "drift", "stuck", "drop_out"}
    for label in labels:
        assert label.metric in {None, *(m.name for m in members[label.device].kind.metrics)}
        assert START_MS <= label.from_ms < label.to_ms <= START_MS + 20_000


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 19, 20, 1000])
def test_a_population_has_as_many_connections_as_asked_and_children_with_parents(devices: int) -> None:
    found = build(devices)
    ids = [m.id for m in found.everybody]
    assert len(found.members) == devices
    assert len(set(ids)) == len(ids)
    assert all(map(is_device_id, ids))
    gateways = [m for m in found.members if m.kind.role is Role.GATEWAY]
    assert Counter(c.parent for c in found.children) == {g.id: CHILDREN for g in gateways}
    for place, gateway in enumerate(found.members):
        if gateway.kind.role is Role.GATEWAY:
            assert found.everybody[found.first_child[place]].parent == gateway.id


def test_a_name_has_the_same_role_in_every_population() -> None:
    small, large = ({m.id: (m.kind.role, m.parent) for m in build(n).everybody} for n in (40, 900))
    assert all(large[name] == role for name, role in small.items() if name in large)


def test_all_forms_of_payload_are_there() -> None:
    assert {m.form for m in build(1000).members} == set(Form)


def test_a_clock_that_runs_fast() -> None:
    assert Clock(1000, 60.0).event_ms(np.array([500.0])).tolist() == [31_000]


def test_a_burst_is_spread_over_the_time_in_which_it_was_measured() -> None:
    cycle = Cycle(np.arange(4), np.ones(4, np.int64), 40.0, np.random.default_rng(1))
    device, behind_ms = cycle.take(40)
    assert Counter(device.tolist()) == dict.fromkeys(range(4), 10)
    assert len(set(device[:10].tolist())) == 1
    assert behind_ms[:10].tolist() == pytest.approx([900, 800, 700, 600, 500, 400, 300, 200, 100, 0])


def test_a_schedule_without_anything_but_good_messages() -> None:
    cycle = Cycle(np.arange(3), np.ones(3, np.int64), 10.0, np.random.default_rng(1))
    awake = faults.draw(build(3), 0, 1, np.random.default_rng(1))
    schedule = Schedule(cycle, 3, 25, 10.0, 1, Mix(0, 0, 0, 0), awake, Clock(0), np.random.default_rng(1))
    found = []
    while not schedule.finished:
        found += schedule.next_tick().fate.tolist()
    assert found == [Fate.ACCEPTED] * 25


def test_a_truth_file_line() -> None:
    line = faults.encode(faults.Label("motor-1", "rpm", "spike", 1, 2, 3.5))
    assert line == b'{"device":"motor-1","metric":"rpm","fault":"spike","from_ms":1,"to_ms":2,"size":3.5}\n'


def test_samples_of_a_message() -> None:
    by_form = {m.form: payloads.samples_of(m) for m in build(1000).members}
    assert by_form[Form.FLAT] == 1
    assert by_form[Form.ARRAY] == 2
    assert by_form[Form.ARROW] == CHILDREN
