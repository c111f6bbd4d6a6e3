"""Derived topics: what the sink makes of their records, and that their tables hold each row once."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from runtime.stage.provenance import START
from schemas import aggregates, anomalies, incidents, presence
from schemas.headers import DerivedHeaders, Provenance
from schemas.vocabulary import Kind
from sinks.adapters.tables import Tables
from sinks.core.derived import TABLES
from sinks.core.flow import Flow, Range
from sinks.core.inserts import token
from sinks.core.logs import LOGS
from sinks.core.ranges import Rule
from sinks.core.records import Arrival
from sinks.core.start import Mark, Start
from sinks.settings import MigrationSettings, SinkSettings
from tests.sinks.busy import busy
from tests.sinks.flows import drain, ranges_of
from tests.support.derived import TABLES as COLUMNS
from tests.support.derived import Stages
from tests.support.records import Chain, Headers

MODULES = (aggregates, anomalies, incidents, presence)
BASE = SinkSettings().rule
NAME = ("raw_epoch", "raw_partition", "raw_offset", "row")


def test_each_row_of_each_topic_goes_to_its_table() -> None:
    parts, chain = ranges_of(busy, stages=True)
    assert chain.stages is not None
    for topic, tables in TABLES.items():
        plan = {i.table: i.rows for i in LOGS[topic].plan(parts[topic])}
        assert list(plan)[-1] == "ledger_derived", "the ledger goes last"
        for table in tables:
            rows = plan[table].to_pylist()
            assert (
                Counter(tuple(r[n] for n in (*NAME, *COLUMNS[table])) for r in rows)
                == (chain.stages.expected.tables[table])
            )
        ledger = plan["ledger_derived"]
        assert sum(ledger["rows"].to_pylist()) == sum(plan[table].num_rows for table in tables)
        assert set(ledger["topic"].to_pylist()) == {topic}


def test_the_ledger_tells_counts_of_aggregates_and_the_time_in_which_they_were_judged() -> None:
    def two_ticks(chain: Chain) -> None:
        for tick_ms in (5_000, 6_000, 9_000):
            chain.data(30)
            chain.tick(tick_ms)

    parts, chain = ranges_of(two_ticks, stages=True)
    assert chain.stages is not None
    rows = LOGS[aggregates.NAME].plan(parts[aggregates.NAME])[-1].rows.to_pylist()
    assert sum(r["readings"] for r in rows) == chain.expected.readings.total()
    assert sum(r["emitted"] for r in rows) == chain.stages.expected.windows["counted"]
    assert rows[-1]["open"] == chain.stages.expected.windows["open"]
    assert [r["prev"] for r in rows] == [-1, *(r["raw_offset"] for r in rows[:-1])]
    ticks = [(r["since"].timestamp(), r["time"].timestamp()) for r in rows if r["kind"] == "tick"]
    assert ticks == [(0, 5), (5, 6), (6, 9)]


def test_the_newest_change_of_each_device_goes_to_the_keyed_table() -> None:
    parts, chain = ranges_of(busy, stages=True)
    assert chain.stages is not None
    plan = {i.table: i.rows for i in LOGS[presence.NAME].plan(parts[presence.NAME])}
    newest = {r["device"]: r["state"] for r in plan["presence_newest"].to_pylist()}
    assert newest == chain.stages.expected.newest
    assert plan["presence_newest"].num_rows == len(newest) < plan["presence"].num_rows


# ---- ranges


def log_of(module: object, ticks: list[tuple[int, bool]], kind: Kind = Kind.TICK) -> list[Arrival]:
    """Records of a derived topic: (ms since the record before, whether it holds a row)."""
    assert hasattr(module, "NAME")
    schema, at_ms, made = f"{module.NAME}/1", 1_000_000, []
    counts = tuple((name, 0) for name in getattr(module, "COUNTS", ()))
    for src, (step_ms, rows) in enumerate(ticks):
        at_ms += step_ms
        given = DerivedHeaders(schema, kind, at_ms, int(rows), counts).encode()
        made.append(Arrival(src, at_ms, given + Provenance(0, src, src - 1).encode(), b"x" * 10))
    return made


def flow(module: object, start: Start | None = None) -> Flow:
    assert hasattr(module, "NAME")
    log = LOGS[module.NAME]
    rule = log.rule(BASE)
    return Flow(
        log.topic, 0, 3, start or Start(0, START, rule, START, committed=False), rule, log.reader(0, "here"), log.timed
    )


def cut(module: object, records: list[Arrival]) -> list[Range]:
    """The ranges, each written before the next ends."""
    found, parts = flow(module), []
    for record in records:
        found.take(record)
        parts += drain(found)
    return parts


@pytest.mark.parametrize("module", MODULES)
def test_empty_ticks_make_long_ranges(module: object) -> None:
    """An hour of them: three inserts a minute, whatever the topic."""
    parts = cut(module, log_of(module, [(1_000, False)] * 3_600))
    assert 165 <= len(parts) <= 180


@pytest.mark.parametrize(
    ("module", "inserts_a_minute"), [(aggregates, 15), (anomalies, 60), (incidents, 60), (presence, 20)]
)
def test_ticks_with_rows_make_so_many_ranges_a_minute(module: object, inserts_a_minute: int) -> None:
    parts = cut(module, log_of(module, [(1_000, True)] * 60))
    assert abs(len(parts) - inserts_a_minute) <= 1


@pytest.mark.parametrize("module", [anomalies, incidents])
def test_what_somebody_waits_for_is_stored_at_once(module: object) -> None:
    records = log_of(module, [(1_000, False), (300, False), (1, True), (1, True), (1_000, False)], Kind.DATA)
    assert [(p.first, p.end) for p in cut(module, records)] == [(0, 3), (3, 4)]


def test_anomalies_that_pile_up_make_fewer_larger_ranges() -> None:
    records = log_of(anomalies, [(20, True)] * 500, Kind.DATA)
    found = flow(anomalies)
    for record in records:
        found.take(record)
    sizes = [len(p.entries) for p in drain(found)]
    assert sizes[:3] == [1, 1, 1]
    assert sizes[4] > 50


@given(st.lists(st.tuples(st.integers(0, 3_000), st.booleans()), max_size=60), st.data())
def test_a_restart_at_any_commit_writes_the_same_rows_under_the_same_tokens(
    made: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """The ledger's rows too, which tell of the record before the range."""
    module = data.draw(st.sampled_from(MODULES))
    records, steady = log_of(module, [(step_ms, False) for step_ms, _ in made]), flow(module)
    records = [Arrival(r.offset, r.appended_ms, r.headers, r.value) for r in records]
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
    again = flow(module, Start(before, mark.highest, mark.rule, START, True, mark.time_ms or 0))
    for record in records[before:]:
        again.take(record)
    plan = LOGS[module.NAME].plan
    found = [(token(p, "t", 0), [i.rows for i in plan(p)]) for p in drain(again)[:1]]
    assert found == [(token(p, "t", 0), [i.rows for i in plan(p)]) for p in whole[at : at + 1]]


def test_topics_that_share_a_table_do_not_share_tokens() -> None:
    parts, _chain = ranges_of(busy, stages=True)
    tokens = [i.token for topic in TABLES for i in LOGS[topic].plan(parts[topic])]
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": b"telemetry.aggregates/3"}, "upgrade it before the writer"),
        ({"schema": b"telemetry.presence/1"}, "expected telemetry.aggregates/1"),
        ({"rows": b"many"}, "rows"),
        ({"open": b""}, "open"),
        ({"prev": b"7"}, "gap in provenance"),
    ],
)
def test_a_derived_record_that_does_not_fit_is_refused_by_name(change: dict[str, bytes], text: str) -> None:
    record = log_of(aggregates, [(1, False)])[0]
    broken: Headers = [(k, change.get(k, v)) for k, v in record.headers]
    with pytest.raises(RefusedError, match="offset 0") as caught:
        flow(aggregates).take(Arrival(0, 0, broken, b""))
    assert text in str(caught.value)


def test_rules_of_derived_topics_come_back_from_the_commit() -> None:
    for module in MODULES:
        rule = LOGS[module.NAME].rule(BASE)
        assert Rule.parse(rule.encode()) == rule
        assert Mark.parse(Mark(1, START, rule, 99).encode()) == Mark(1, START, rule, 99)


# ---- tables


def store(database: MigrationSettings, parts: dict[str, Range], check: bool) -> None:
    tables = Tables(database)
    for topic in TABLES:
        for insert in LOGS[topic].plan(parts[topic]):
            tables.insert(insert, check)
    tables.close()


def test_rows_arrive_once_however_often_they_are_inserted(db: ClickHouse, database: MigrationSettings) -> None:
    parts, chain = ranges_of(busy, stages=True)
    assert chain.stages is not None
    for check in (False, False, True, False, True):
        store(database, parts, check)
    for table, columns in COLUMNS.items():
        found = db.rows(f"SELECT {', '.join((*NAME, *columns))} FROM {table}")
        assert Counter(found) == chain.stages.expected.tables[table], table
    assert db.rows("SELECT count() FROM ledger_derived") == [(chain.stages.expected.records,)]
    assert dict(db.rows("SELECT device, state FROM presence_current")) == chain.stages.expected.newest


def test_a_range_that_was_cut_off_between_two_inserts_is_completed(db: ClickHouse, database: MigrationSettings) -> None:
    """By a successor that cuts it otherwise, so that tokens do not help."""
    tables, (parts, chain) = Tables(database), ranges_of(busy, stages=True)
    assert chain.stages is not None
    for topic in TABLES:
        plan = LOGS[topic].plan(parts[topic])
        tables.insert(plan[0], check=False)
        for insert in plan:
            tables.insert(replace(insert, token=f"another {insert.token}"), check=True)
    tables.close()
    for table in COLUMNS:
        assert db.rows(f"SELECT count() FROM {table}") == [(chain.stages.expected.tables[table].total(),)], table
    assert db.rows("SELECT count() FROM ledger_derived") == [(chain.stages.expected.records,)]


def test_the_newest_change_wins_whatever_comes_last(db: ClickHouse, database: MigrationSettings) -> None:
    parts, chain = ranges_of(busy, stages=True)
    assert chain.stages is not None
    store(database, parts, check=False)
    device, late = next(iter(chain.stages.expected.newest)), "now64(3) - INTERVAL 1 HOUR"
    db.command(f"INSERT INTO presence_newest (device, state, time, raw_offset) VALUES ('{device}', 'late', {late}, 1)")
    assert dict(db.rows("SELECT device, state FROM presence_current")) == chain.stages.expected.newest


def test_where_the_tables_of_a_derived_topic_end(db: ClickHouse, database: MigrationSettings) -> None:
    tables, (parts, chain) = Tables(database), ranges_of(busy, stages=True)
    assert chain.stages is not None
    for topic in TABLES:
        log = LOGS[topic]
        assert tables.ledger_end(log, 3) is None
        plan = log.plan(parts[topic])
        for insert in plan[:-1]:
            tables.insert(insert, check=False)
        ahead = tables.furthest(log, 0, 3, START)
        assert ahead > START, "rows without a ledger are seen"
        tables.insert(plan[-1], check=False)
        end = tables.ledger_end(log, 3)
        assert end is not None
        assert end.highest.src == chain.stages.prev[topic]
        assert end.offset == len(parts[topic].entries) - 1
        assert end.time_ms == chain.time_ms
        assert tables.furthest(log, 0, 3, end.highest) == end.highest
    tables.close()


def test_stages_generator_is_no_mirror_of_the_sink() -> None:
    """Each tick has a record on each topic, so a topic that lost one would be noticed."""
    sent: Counter[str] = Counter()
    stages = Stages(lambda topic, _p, _h, _v: sent.update([topic]), 0)
    for offset in range(10):
        stages.take(offset, Kind.TICK, offset, 5)
    assert sent == {module.NAME: 10 for module in MODULES}
