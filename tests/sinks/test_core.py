"""What the sink decides, without any server."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from runtime.clickhouse.errors import translate
from runtime.errors import FatalError, RefusedError, RetryableError
from runtime.stage.provenance import START, Highest
from schemas import control, headers
from schemas.control import Device, mark_key, settings_key
from schemas.headers import Counts, Provenance, ReadingsHeaders, Version
from schemas.vocabulary import Kind
from sinks.core.flow import Range
from sinks.core.inserts import MAX_MONTHS, pieces, token
from sinks.core.plan import plan_raw, plan_readings
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, read_raw, read_readings
from sinks.core.start import Found, LedgerEnd, Mark, Start, decide
from sinks.core.statements import fill, split
from sinks.metrics import DelayHistogram
from tests.sinks.flows import RULE, drain, flow, log_of, range_of
from tests.support.records import Chain

OTHER = Rule(rows=7, bytes=3_000, step_ms=100, idle_ms=2_000)
FRESH = Start(0, START, RULE, START, committed=False)

steps = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 9), st.integers(0, 4_000), st.integers(0, 700), st.booleans()),
    max_size=60,
)


def shape(part: Range) -> tuple[object, ...]:
    return part.first, part.end, part.rule, tuple(e.offset for e in part.entries), token(part, "readings", 0)


@given(steps)
def test_ranges_hold_every_record_once_in_order(made: list[tuple[Kind, int, int, int, bool]]) -> None:
    records, found = log_of(made), flow(FRESH)
    for record in records:
        found.take(record)
    parts = drain(found)
    assert [p.first for p in parts] == [0, *(p.end for p in parts)][: len(parts)]
    taken = [e.origin.src for p in parts for e in p.entries]
    assert taken == list(range(len(taken)))
    assert found.repeats <= sum(repeated for *_, repeated in made)


@given(steps, st.data())
def test_a_restart_at_any_commit_cuts_the_same_ranges(
    made: list[tuple[Kind, int, int, int, bool]], data: st.DataObject
) -> None:
    """Also with other settings: the first range after a start is cut by the rule of the commit."""
    records, steady = log_of(made), flow(FRESH)
    for record in records:
        steady.take(record)
    assert steady.to_commit is not None
    commits = [steady.to_commit]
    steady.committed()
    whole = []
    while (part := steady.next()) is not None:
        steady.stored(part)
        commits.append(steady.to_commit)
        steady.committed()
        whole.append(part)
    at = data.draw(st.integers(0, len(whole)))
    before, mark = commits[at][0], Mark.parse(commits[at][1])
    again = flow(Start(before, mark.highest, mark.rule, START, committed=True), rule=OTHER)
    for record in records[before:]:
        again.take(record)
    assert [shape(p) for p in drain(again)[:1]] == [shape(p) for p in whole[at : at + 1]]


def test_nothing_is_written_before_the_start_is_committed() -> None:
    found = flow(FRESH)
    for record in log_of([(Kind.DATA, 50, 1, 0, False)]):
        found.take(record)
    assert found.next() is None
    assert found.to_commit == (0, "1 0 -1 -1 20/10000/500/5000/0")
    assert found.committed() is None
    part = found.next()
    assert part is not None
    found.stored(part)
    assert found.next() is None, "the next range waits for the commit of this one"
    assert found.committed() is part


def test_ranges_that_touch_what_tables_hold_ask_first() -> None:
    start = Start(0, START, RULE, Highest(0, 1), committed=True)
    found = flow(start)
    for record in log_of([(Kind.DATA, 50, 1, 0, False)] * 5):
        found.take(record)
    assert [p.check for p in drain(found)] == [True, True, False, False, False]


def test_ticks_alone_make_long_ranges_and_end_busy_ones() -> None:
    tick, data = (Kind.TICK, 0, 0, 1000, False), (Kind.DATA, 1, 10, 10, False)
    found = flow(FRESH)
    for record in log_of([tick] * 6 + [data, data, tick, data, tick]):
        found.take(record)
    assert [(p.first, p.end) for p in drain(found)] == [(0, 6), (6, 9), (9, 11)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"src": b"0/5"}, "gap in provenance"),
        ({"schema": b"telemetry.readings/3"}, "upgrade it before the writer"),
        ({"kind": b"novel"}, "kind"),
        ({"prev": b"x"}, "prev"),
        ({"received": b"many"}, "received"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_name(change: dict[str, bytes], text: str) -> None:
    found = flow(FRESH)
    record = log_of([(Kind.DATA, 1, 1, 0, False)])[0]
    broken = [(k, change.get(k, v)) for k, v in record.headers]
    if "src" in change:
        broken = [(k, b"3" if k == "prev" else v) for k, v in broken]
    with pytest.raises(RefusedError) as caught:
        found.take(Arrival(0, 0, broken, b""))
    assert text in str(caught.value)
    assert "offset 0" in str(caught.value)


def test_ranges_that_pile_up_grow_and_the_commit_says_so() -> None:
    """So that a sink that fell behind catches up, and its successor still cuts the same ranges."""
    records = log_of([(Kind.DATA, 1, 1, 200, False), (Kind.TICK, 0, 0, 300, False)] * 100)
    piled = flow(FRESH)
    for record in records:
        piled.take(record)
    whole = drain(piled)
    sizes = [len(p.entries) for p in whole]
    assert sizes[:3] == [2, 2, 2]
    assert min(sizes[4:10]) >= 6
    at = 2
    mark = Mark.parse(Mark(0, whole[at].after, whole[at + 1].rule).encode())
    again = flow(Start(whole[at].end, mark.highest, mark.rule, START, committed=True))
    for record in records[whole[at].end :]:
        again.take(record)
    assert shape(drain(again)[0]) == shape(whole[at + 1])


def test_ranges_are_as_long_as_the_log_is_behind() -> None:
    found, rules = flow(FRESH), []
    for at, record in enumerate(log_of([(Kind.TICK, 0, 0, 400, False), (Kind.DATA, 1, 1, 100, False)] * 60)):
        found.take(record, lag_ms=3_000 if at < 60 else 20)
        rules += [p.rule.step_ms for p in drain(found)]
    assert rules[0] == 500
    assert set(rules[1:4]) == {3_000}
    assert set(rules[-4:]) == {500}


def test_the_commit_of_a_range_names_the_rule_of_the_next() -> None:
    found = flow(FRESH)
    for record in log_of([(Kind.TICK, 0, 0, 5000, False)] * 40):
        found.take(record)
    found.committed()
    rules = []
    while (part := found.next()) is not None:
        rules.append(part.rule)
        found.stored(part)
        assert found.to_commit is not None
        committed = Mark.parse(found.to_commit[1]).rule
        found.committed()
        following = found.next()
        assert following is None or following.rule == committed
    assert len(set(rules)) == 3, "the usual, and two longer ones"


# ---- where to start

MARK = Mark(2, Highest(1, 50), OTHER).encode()
END = LedgerEnd(Highest(1, 50), 2, 90)


def world(**change: object) -> Found:
    base = {"epoch": 2, "low": 0, "high": 100, "commit": (91, MARK), "ledger": END, "furthest": Highest(1, 60)}
    return Found(**(base | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (world(), Start(91, Highest(1, 50), OTHER, Highest(1, 60), True)),
        (world(commit=None), Start(91, Highest(1, 50), RULE, Highest(1, 60), False)),
        (world(commit=None, ledger=None, furthest=START), Start(0, START, RULE, START, False)),
        (
            world(commit=None, ledger=LedgerEnd(Highest(1, 60), 1, 7)),
            Start(0, Highest(1, 60), RULE, Highest(1, 60), False),
        ),
        (
            world(commit=(91, Mark(1, Highest(1, 50), OTHER).encode())),
            Start(91, Highest(1, 50), RULE, Highest(1, 60), False),
        ),
    ],
    ids=["the commit", "the ledger", "a virgin log", "the topic created again", "a commit about the topic before"],
)
def test_it_starts_where(found: Found, start: Start) -> None:
    assert decide("here", found, RULE) == start


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (world(low=95), "retention deleted offsets 91 to 94"),
        (world(high=90), "truncated or created again"),
        (world(commit=(91, "what?")), "not written by this sink"),
        (world(ledger=None), "ClickHouse lost rows or is another server"),
        (world(ledger=LedgerEnd(Highest(1, 49), 2, 89)), "ClickHouse lost rows or is another server"),
        (world(commit=None, low=95), "retention deleted offsets 91 to 94"),
        (world(commit=None, ledger=None, furthest=START, low=1), "begins at offset 1"),
        (world(commit=None, ledger=None), "the ledger knows nothing"),
    ],
)
def test_it_refuses_to_start_where_something_could_be_lost_or_doubled(found: Found, text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        decide("here", found, RULE)
    assert text in str(caught.value).replace("\n", " ")


# ---- what goes into which table


def test_each_row_goes_to_its_table_with_its_name_for_ever() -> None:
    raw, readings, chain = range_of(lambda c: (c.data(50, platform=2), c.data(50), c.tick()))
    plan = {i.table: i.rows for i in plan_readings(readings)}
    assert list(plan) == ["readings", "denied", "dead_letters", "events", "ledger_facts"]
    rows = plan["readings"].to_pylist()
    names = ("raw_epoch", "raw_partition", "raw_offset", "raw_row", "reading_index", "device", "metric", "value")
    assert {tuple(r[n] for n in names) for r in rows} == set(chain.expected.readings)
    assert {tuple(r[n] for n in names[:4]) for r in plan["denied"].to_pylist()} == set(chain.expected.denied)
    names = ("raw_epoch", "raw_partition", "raw_offset", "raw_row", "device", "event")
    events = plan["events"].to_pylist()
    assert {tuple(r[n] for n in names) for r in events} == set(chain.expected.events)
    assert all(r["time"] for r in events), "one that does not say its time happened when it was received"
    assert plan["ledger_facts"]["kind"].to_pylist() == ["data", "data", "tick"]
    assert sum(plan["ledger_facts"]["events"].to_pylist()) == len(events)
    received = plan_raw(raw)[0].rows
    assert received["received"].to_pylist() == [50, 50, 0]


def test_a_record_of_the_first_version_has_no_events() -> None:
    given = ReadingsHeaders(Kind.DATA, 5, Counts(received=2, accepted=2, readings=2, events=9)).encode()
    first = [(k, b"telemetry.readings/1" if k == "schema" else v) for k, v in given if k != "events"]
    entry = read_readings("here", Arrival(0, 0, first + Provenance(0, 0, -1).encode(), b""))
    assert (entry.counts.events, entry.rows) == (0, 3)


def test_what_operators_decide_becomes_history() -> None:
    mark = control.Mark("00c0ffee00c0ffee", "false-alarm", "pump-1", at_ms=77)

    def decide(chain: Chain) -> None:
        chain.control_record(Version(0, 1), "policy", b"{}")
        chain.device(Version(0, 2), Device("pump-1", "motor", labels={"site": "north"}))
        chain.control_record(Version(0, 3), settings_key("anomaly"), b'{"detectors":[]}')
        chain.control_record(Version(0, 4), mark_key(mark.incident), mark.encode())
        chain.control_record(Version(0, 5), mark_key(mark.incident), b"")
        chain.control_record(Version(0, 6), "novel/key", b"{}")

    _raw, readings, _chain = range_of(decide)
    found = {i.table: i.rows.to_pylist() for i in plan_readings(readings)}
    assert list(found) == ["policies", "devices", "stage_settings", "incident_marks", "ledger_facts"]
    assert found["devices"][0]["labels"] == [("site", "north")]
    assert [(r["stage"], r["settings"]) for r in found["stage_settings"]] == [("anomaly", '{"detectors":[]}')]
    marks = [(r["incident"], r["mark"], r["said_at"] and r["said_at"].timestamp()) for r in found["incident_marks"]]
    assert marks == [(mark.incident, "false-alarm", 0.077), (mark.incident, "", None)]
    assert [r["version_offset"] for table in list(found)[:-1] for r in found[table]] == [1, 2, 3, 4, 5]


def test_a_record_without_rows_is_not_opened() -> None:
    _raw, readings, _chain = range_of(lambda c: (c.data(0), c.tick()))
    entry = readings.entries[0]
    spoilt = Range(**{f: getattr(readings, f) for f in Range.__dataclass_fields__} | {"entries": (entry,)})
    assert [i.table for i in plan_readings(spoilt)] == ["ledger_facts"]


def test_a_broken_value_is_refused_by_name() -> None:
    _raw, readings, _chain = range_of(lambda c: (c.data(5), c.tick()))
    object.__setattr__(readings.entries[0], "value", readings.entries[0].value[:-40])
    with pytest.raises(RefusedError, match=r"telemetry\.readings\[3\] offset 0"):
        plan_readings(readings)


@given(st.lists(st.integers(-2000, 2000), max_size=300), st.randoms(use_true_random=False))
def test_pieces_touch_few_months_and_hold_every_row_once(months: list[int], rng: random.Random) -> None:
    times = np.array(months, "datetime64[M]").astype("datetime64[ms]") + np.timedelta64(rng.randrange(10**9), "ms")
    rows = pa.table(
        {"time": pa.array(times).cast(pa.timestamp("ms", "UTC")), "n": pa.array(range(len(times)), pa.int64())}
    )
    cut = list(pieces(rows, "time"))
    assert sorted(n for piece in cut for n in piece["n"].to_pylist()) == list(range(len(times)))
    for piece in cut:
        assert len(np.unique(piece["time"].to_numpy().astype("datetime64[M]"))) <= MAX_MONTHS
    assert [p["n"].to_pylist() for p in pieces(rows, "time")] == [p["n"].to_pylist() for p in cut]


# ---- the rest


def test_sql_files_are_split_at_semicolons_that_end_statements() -> None:
    text = "-- a; comment\nSELECT 'a;b', \"c;d\", `e;f`, 'it''s; \\'; x' /* g;\nh */;\n\nSELECT 4/2 - 1 -- ; \n;;"
    assert split(text) == ["SELECT 'a;b', \"c;d\", `e;f`, 'it''s; \\'; x'", "SELECT 4/2 - 1"]
    assert fill("a ${b} c", {"b": "x"}) == "a x c"


def test_errors_of_clickhouse_carry_policy() -> None:
    assert isinstance(translate(OSError("refused"), None, "insert"), RetryableError)
    assert isinstance(translate(ValueError("too many parts"), 252, "insert"), RetryableError)
    assert isinstance(translate(ValueError("no such column"), 16, "insert"), FatalError)


def test_the_delay_histogram_counts_as_prometheus_does() -> None:
    histogram = DelayHistogram("d", "delays", (0.1, 1.0))
    registry = CollectorRegistry()
    registry.register(histogram)
    histogram.observe(np.array([0.1, 0.5, 2.0, 0.05]))
    got = [registry.get_sample_value("d_bucket", {"le": le}) for le in ("0.1", "1.0", "+Inf")]
    assert got == [2, 3, 4]
    assert registry.get_sample_value("d_sum") == pytest.approx(2.65)


def test_raw_counts_messages_without_the_platforms_own_rows() -> None:
    found = read_raw(4, "raw", Arrival(9, 0, headers.raw_data(10, platform=3, replayed=2), b""))
    assert (found.received.messages, found.received.platform, found.received.replayed) == (7, 3, 2)
    assert found.origin == Provenance(4, 9, 8)
