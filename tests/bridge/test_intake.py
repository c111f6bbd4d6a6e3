"""Groups are acknowledged first in, first out; the budget pauses and resumes; routes stay bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core import rows
from bridge.core.intake import Intake, Limits
from bridge.core.routes import Routes
from schemas.partition import partition_of


def _put(intake: Intake, device: str, payload: bytes = b"1") -> bool:
    topic = f"d/{device}/telemetry/x".encode()
    extend, publisher = intake.route(topic)
    extend(rows.row(publisher, topic, payload, None, 0, 0))
    return intake.add(1, len(payload))


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_groups_are_acknowledged_in_order_of_receipt_whatever_kafka_answers_first(
    sizes: list[int], data: st.DataObject
) -> None:
    intake, order = Intake(4), []
    groups = []
    for i, size in enumerate(sizes):
        for n in range(size):
            _put(intake, f"device-{n}")
        intake.open.done.append(lambda i=i: order.append(i))
        groups.append(intake.close(0.0)[0])
    for i in data.draw(st.permutations(range(len(groups)))):
        groups[i].pending = 0
        for group in intake.acknowledged():
            for done in group.done:
                done()
        assert order == list(range(len(order)))
    assert order == list(range(len(sizes)))
    assert intake.held_bytes == 0 and not intake.closed


def test_a_group_is_full_by_rows_or_by_bytes() -> None:
    intake = Intake(2, Limits(group_rows=3, group_bytes=10_000))
    assert [_put(intake, "a") for _ in range(3)] == [False, False, True]
    intake.close(0.0)
    assert _put(intake, "a", bytes(10_000))


def test_over_budget_pauses_and_resumes_well_below_it() -> None:
    intake = Intake(1, Limits(budget_bytes=10_000))
    while not intake.paused:
        assert intake.shedding is (intake.held_bytes > 8000)
        _put(intake, "a", bytes(1000))
        intake.close(0.0)
    assert intake.shedding and intake.held_bytes > 10_000
    for group in list(intake.closed):
        group.pending = 0
        list(intake.acknowledged())
        assert intake.paused is (intake.held_bytes >= 6000)
    assert not intake.paused


def test_rows_of_one_device_go_to_its_partition() -> None:
    intake = Intake(7)
    for n in range(40):
        _put(intake, f"device-{n}")
    _, records = intake.close(0.0)
    for record in records:
        assert record.rows == sum(partition_of(f"device-{n}".encode(), 7) == record.partition for n in range(40))


def test_routes_forget_the_oldest_topics_and_never_remember_long_ones() -> None:
    routes = Routes([[]], size=10)
    for n in range(100):
        routes.route(b"d/%d/config" % n)
    assert len(routes.cache) <= 10 and b"d/99/config" in routes.cache
    routes.route(b"d/a/" + b"x" * 1000)
    assert max(map(len, routes.cache)) < 20


def test_topics_without_a_device_have_a_route() -> None:
    routes = Routes([[], []])
    assert [routes.route(t)[1] for t in (b"d", b"", b"d/", b"d//x", b"d/a", b"e/b/c")] == [
        b"",
        b"",
        b"",
        b"",
        b"a",
        b"b",
    ]
