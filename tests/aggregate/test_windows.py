"""When a window is written, as what, and what hostile input cannot do."""

import math

import pytest

from runtime.columns.series import DEVICE_FULL
from schemas import aggregates, sketch
from schemas.control import Device, settings_key
from schemas.errors import ContractError, NewerSchemaError
from schemas.headers import Version, kind_of, number
from schemas.vocabulary import Kind, Part, Verdict
from streams.aggregate.core import rows, state
from streams.aggregate.core.state import NOT_A_NUMBER, State
from streams.aggregate.windowing import Windowing
from tests.aggregate.oracle import by_window, same, truth
from tests.aggregate.support import (
    MINUTE_MS,
    NOW_MS,
    Row,
    control,
    counts_of,
    data,
    ended,
    fresh,
    reading,
    registered,
    rows_of,
    settings,
    tick,
)

END_MS = NOW_MS + MINUTE_MS
GRACE_MS = 5_000


def started(**given: object) -> State:
    """With stream time NOW_MS and these settings."""
    found = fresh()
    found.apply(settings(0, Windowing(**given)))  # type: ignore[arg-type]
    found.apply(tick(1, NOW_MS))
    return found


def parts(found: list[Row]) -> list[tuple[str, int, Part, int]]:
    """(device, begin of the window since NOW_MS, part, count) of rows of devices."""
    return [
        (row["device"], row["window_start"] - NOW_MS, Part(row["part"]), row["count"])
        for row in found
        if row["scope"] == aggregates.DEVICE
    ]


def test_a_window_is_final_at_the_first_tick_past_its_end_and_grace() -> None:
    aggregate = started()
    assert not aggregate.apply(data(2, [reading("a", 1.0), reading("a", 2.5, END_MS - 1), reading("a", 7.0, END_MS)]))
    assert rows_of(aggregate.apply(tick(3, END_MS + GRACE_MS - 1))) == []
    (row,) = rows_of(aggregate.apply(tick(4, END_MS + GRACE_MS)))
    assert row == {
        "scope": "device",
        "device": "a",
        "channel": "climate",
        "metric": "temperature",
        "window_start": NOW_MS,
        "window_ms": MINUTE_MS,
        "part": Part.FINAL,
        "count": 2,
        "sum": 3.5,
        "sum_squares": 7.25,
        "mean": 1.75,
        "m2": 1.125,
        "min": 1.0,
        "max": 2.5,
        "first": 1.0,
        "last": 2.5,
        "first_time": NOW_MS,
        "last_time": END_MS - 1,
        "sketch_buckets": [sketch.bucket_of(1.0), sketch.bucket_of(2.5)],
        "sketch_counts": [1, 1],
    }
    assert rows_of(aggregate.apply(tick(5, END_MS + GRACE_MS))) == []
    assert aggregate.open == 1


def test_what_comes_later_is_collected_and_written_as_late() -> None:
    aggregate = started()
    aggregate.apply(data(2, [reading("a", 1.0)]))
    now = END_MS + GRACE_MS
    assert parts(rows_of(aggregate.apply(tick(3, now)))) == [("a", 0, Part.FINAL, 1)]
    aggregate.apply(data(4, [reading("a", 2.0)]))
    assert rows_of(aggregate.apply(tick(5, now + 4_000))) == []
    aggregate.apply(data(6, [reading("a", 3.0), reading("b", 3.0), reading("b", 3.0, NOW_MS - 86_400_000)]))
    assert rows_of(aggregate.apply(tick(7, now + 9_999))) == []
    assert parts(rows_of(aggregate.apply(tick(8, now + 10_000)))) == [
        ("a", 0, Part.LATE, 2),
        ("b", 0, Part.LATE, 1),
        ("b", -86_400_000, Part.LATE, 1),
    ]
    aggregate.apply(data(9, [reading("a", 4.0)]))
    assert parts(rows_of(aggregate.apply(tick(10, now + 20_000)))) == [("a", 0, Part.LATE, 1)]


def test_a_clock_that_runs_ahead_disturbs_nobody() -> None:
    aggregate = started()
    day_ms = 86_400_000
    aggregate.apply(data(2, [reading("a", 1.0), reading("wrong", 1.0, NOW_MS + day_ms)]))
    assert parts(rows_of(aggregate.apply(tick(3, END_MS + GRACE_MS)))) == [("a", 0, Part.FINAL, 1)]
    aggregate.apply(data(4, [reading("a", 1.0, END_MS)]))
    assert parts(rows_of(aggregate.apply(tick(5, END_MS + MINUTE_MS + GRACE_MS)))) == [("a", MINUTE_MS, Part.FINAL, 1)]
    assert parts(rows_of(aggregate.apply(tick(6, END_MS + day_ms + GRACE_MS)))) == [("wrong", day_ms, Part.FINAL, 1)]


def test_early_partials_come_where_asked_for_and_are_disjoint() -> None:
    aggregate = started(early_s=20)
    aggregate.apply(data(2, [reading("a", 1.0)]))
    assert parts(rows_of(aggregate.apply(tick(3, NOW_MS + 19_000)))) == []
    assert parts(rows_of(aggregate.apply(tick(4, NOW_MS + 20_000)))) == [("a", 0, Part.EARLY, 1)]
    aggregate.apply(data(5, [reading("a", 2.0), reading("a", 3.0)]))
    assert parts(rows_of(aggregate.apply(tick(6, END_MS + GRACE_MS)))) == [("a", 0, Part.FINAL, 2)]


def test_the_oldest_windows_are_written_early_rather_than_too_many_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_OPEN", 8)
    aggregate = started(groups=())
    sent = [reading("ahead", float(n), NOW_MS + n * MINUTE_MS) for n in range(9)]
    found = rows_of(aggregate.apply(data(2, sent)))
    assert parts(found) == [("ahead", n * MINUTE_MS, Part.EARLY, 1) for n in range(2)]
    assert aggregate.windows.open == 7
    for offset in range(3, 30):
        batch = [reading(f"d-{offset}-{n % 5}", 1.0, NOW_MS + n * 7_000) for n in range(20)]
        sent += batch
        found += rows_of(aggregate.apply(data(offset, batch)))
        assert aggregate.windows.open <= 8
    same(by_window(found + ended(aggregate, 100, NOW_MS + 86_400_000)), truth(sent))


def test_more_windows_than_one_record_closes_follow_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_CLOSED", 100)
    aggregate = started(groups=())
    sent = [reading(f"d-{n}", float(n)) for n in range(250)]
    aggregate.apply(data(2, sent))
    found = rows_of(aggregate.apply(tick(3, END_MS + GRACE_MS)))
    assert len(found) == 100
    more = [reading("d-0", -1.0), reading("d-249", 1.0), reading("new", 1.0, END_MS)]
    found += rows_of(aggregate.apply(data(4, more))) + rows_of(aggregate.apply(tick(5, END_MS + GRACE_MS)))
    assert {row["part"] for row in found} == {Part.FINAL}, "until all are closed nothing is late"
    assert aggregate.windows.open == 1
    assert not rows_of(aggregate.apply(tick(6, END_MS + GRACE_MS + 1)))
    same(by_window(found), truth([*sent, *more[:2]]))


def test_more_rows_than_fit_leave_over_the_next_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MOST_ROWS", 100)
    aggregate = started(groups=())
    sent = [reading(f"d-{n}", float(n)) for n in range(250)]
    aggregate.apply(data(2, sent))
    outputs = [*aggregate.apply(tick(3, END_MS + GRACE_MS))]
    assert counts_of(outputs)["rows"] == 100 and counts_of(outputs)["open"] == 150
    outputs += aggregate.apply(data(4, [reading("new", 1.0, END_MS)]))
    outputs += aggregate.apply(registered(5, Device("d-1", "meter")))
    assert [kind_of(dict(o.headers)) for o in outputs] == [Kind.TICK, Kind.DATA, Kind.CONTROL]
    assert not aggregate.apply(data(6, [])), "nothing is left"
    same(by_window(rows_of(outputs)), truth(sent))


def test_a_record_fits_into_its_topic_when_every_device_is_a_group_of_its_own() -> None:
    aggregate = started(groups=("role", "a", "b", "c"))
    longest = 64
    for n in range(30_000):
        name = f"{n:0{longest}d}"
        aggregate.apply(registered(2, Device(name, "meter", labels={"a": name, "b": name, "c": name})))
    sent = [reading(f"{n:0{longest}d}", n / 7, metric=f"{n % 900:0250d}") for n in range(30_000)]
    aggregate.apply(data(3, sent))
    sizes = [len(o.value) for n in range(3) for o in aggregate.apply(tick(4 + n, END_MS + GRACE_MS))]
    assert aggregate.open == 0
    assert 12 << 20 < max(sizes) < 15 << 20


def test_other_settings_of_windows_write_first_what_the_old_ones_began() -> None:
    aggregate = started()
    aggregate.apply(data(2, [reading("a", 1.0), reading("a", 1.0, NOW_MS - 3 * MINUTE_MS)]))
    found = rows_of(aggregate.apply(settings(3, Windowing(window_s=10))))
    assert parts(found) == [("a", 0, Part.EARLY, 1), ("a", -3 * MINUTE_MS, Part.LATE, 1)]
    assert {row["window_ms"] for row in found} == {MINUTE_MS}
    aggregate.apply(data(4, [reading("a", 2.0, NOW_MS + 12_000)]))
    (row,) = rows_of(aggregate.apply(tick(5, NOW_MS + 25_000)))
    assert (row["window_start"], row["window_ms"]) == (NOW_MS + 10_000, 10_000)


def test_settings_that_leave_windows_alone_write_nothing() -> None:
    aggregate = started()
    aggregate.apply(data(2, [reading("a", 1.0)]))
    assert not aggregate.apply(settings(3, Windowing(late_s=1, groups=("site",))))
    assert aggregate.windows.open == 1


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"window_s":7}', b'{"other":1}'])
def test_bad_settings_change_nothing(value: bytes) -> None:
    aggregate = started(window_s=10)
    aggregate.apply(control(5, settings_key("aggregate"), value))
    assert aggregate.settings.value == Windowing(window_s=10)
    aggregate.apply(control(6, settings_key("aggregate"), Windowing(3600).encode(), Version(0, 0)))
    assert aggregate.settings.value == Windowing(window_s=10), "an older one"


def test_without_a_sketch_rows_have_none() -> None:
    aggregate = started(sketch=False)
    aggregate.apply(data(2, [reading("a", 1.0)]))
    (row,) = rows_of(aggregate.apply(tick(3, END_MS + GRACE_MS)))
    assert row["sketch_buckets"] == row["sketch_counts"] == []


def test_groups_are_labels_of_the_registry_and_its_role() -> None:
    aggregate = started(groups=("site", "role", "colour"))
    for offset, (name, role, site) in enumerate((("a", "meter", "x"), ("b", "motor", "x"), ("c", "motor", "y")), 2):
        aggregate.apply(registered(offset, Device(name, role, labels={"site": site})))
    aggregate.apply(data(9, [reading(name, value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", 8.0))]))
    found = rows_of(aggregate.apply(tick(10, END_MS + GRACE_MS)))
    groups = {(row["scope"], row["device"]): (row["count"], row["sum"]) for row in found if row["scope"] != "device"}
    assert groups == {
        ("site", "x"): (2, 3.0),
        ("site", "y"): (1, 4.0),
        ("role", "meter"): (1, 1.0),
        ("role", "motor"): (2, 6.0),
    }
    assert counts_of(aggregate.apply(tick(11, END_MS + GRACE_MS)))["emitted"] == 0
    assert len(parts(found)) == 4


def test_a_device_belongs_to_the_group_that_it_has_when_its_window_is_written() -> None:
    aggregate = started(groups=("site",))
    aggregate.apply(registered(2, Device("a", "meter", labels={"site": "x"})))
    aggregate.apply(data(3, [reading("a", 1.0)]))
    aggregate.apply(registered(4, Device("a", "meter", labels={"site": "y"})))
    found = rows_of(aggregate.apply(tick(5, END_MS + GRACE_MS)))
    assert [(row["scope"], row["device"], row["count"]) for row in found] == [("device", "a", 1), ("site", "y", 1)]


def test_texts_and_what_is_not_accepted_are_not_folded() -> None:
    aggregate = started()
    denied = [reading("a", None) | {"verdict": int(v), "channel": None, "metric": None} for v in list(Verdict)[1:]]
    rows_in = [reading("a", "on"), reading("a", 1.0), *denied, reading("b", math.nan), reading("a", None)]
    aggregate.apply(data(2, rows_in))
    assert aggregate.seen.refused == {NOT_A_NUMBER: 1}
    found = aggregate.apply(tick(3, END_MS + GRACE_MS))
    assert counts_of(found) == {
        "rows": 1,
        "readings": 4,
        "folded": 1,
        "texts": 2,
        "refused": 1,
        "emitted": 1,
        "open": 0,
    }


def test_infinities_and_the_largest_numbers_are_folded() -> None:
    aggregate = started()
    aggregate.apply(data(2, [reading("huge", v) for v in (1e300, 1e300, -1e300)]))
    aggregate.apply(data(3, [reading("inf", v) for v in (math.inf, 1.0, -math.inf)]))
    huge, inf = rows_of(aggregate.apply(tick(4, END_MS + GRACE_MS)))
    assert (huge["count"], huge["sum"], huge["sum_squares"], huge["min"], huge["max"]) == (
        3,
        1e300,
        math.inf,
        -1e300,
        1e300,
    )
    assert (inf["count"], inf["min"], inf["max"]) == (3, -math.inf, math.inf) and math.isnan(inf["sum"])
    assert inf["sketch_buckets"] == [-sketch.INFINITE, sketch.bucket_of(1.0), sketch.INFINITE]


def test_a_hundred_thousand_metrics_of_one_device_cost_the_others_nothing() -> None:
    aggregate = started()
    for n in range(50):
        aggregate.apply(data(n, [reading("flood", 1.0, metric=f"m{n}.{k}") for k in range(2_000)]))
    assert aggregate.seen.refused == {DEVICE_FULL: 2_000}
    assert aggregate.series.size == 1_000
    aggregate.apply(data(60, [reading("other", 1.0)]))
    counts = counts_of(aggregate.apply(tick(61, END_MS + GRACE_MS)))
    assert (counts["readings"], counts["folded"], counts["refused"]) == (100_001, 1_001, 99_000)
    assert counts["emitted"] == 1_001


def test_times_of_any_century_are_windows() -> None:
    aggregate = started()
    years = (1900, 1969, 1970, 2299)
    sent = [reading("a", 1.0, (year - 1970) * 31_556_952_000 + 1) for year in years]
    aggregate.apply(data(2, sent))
    found = rows_of(aggregate.apply(tick(3, NOW_MS + 10_000))) + rows_of(aggregate.apply(tick(4, NOW_MS + 1 << 44)))
    same(by_window(found), truth(sent))


def test_only_ticks_move_stream_time_and_only_forward() -> None:
    aggregate = started()
    aggregate.apply(data(2, [reading("a", 1.0, NOW_MS + 10 * MINUTE_MS)], time_ms=NOW_MS + 10 * MINUTE_MS))
    for time_ms, expected in ((NOW_MS + 5, NOW_MS + 5), (NOW_MS, NOW_MS + 5)):
        (output,) = aggregate.apply(tick(3, time_ms))
        assert (number(dict(output.headers), "time"), output.value) == (expected, b"")


def test_a_broken_record_stops_the_stage_with_a_clear_error() -> None:
    record = data(2, [reading("a", 1.0)])
    with pytest.raises(ContractError, match="not an Arrow IPC stream"):
        started().apply(type(record)(0, 2, 0, 2, Kind.DATA, record.headers, record.value[:200]))
    newer = dict(record.headers) | {"schema": b"telemetry.readings/3"}
    with pytest.raises(NewerSchemaError):
        started().apply(type(record)(0, 2, 0, 2, Kind.DATA, newer, record.value))
