"""The engine against a real Kafka and a real ClickHouse: memory, unreadable records, deleted topics, liveness."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields

import pytest

from operations import stages
from runtime.kafka import clients, topics
from runtime.stage.contract import Record
from schemas.headers import Provenance, raw_tick
from schemas.skips import Skips
from schemas.topics import AGGREGATES, RAW, READINGS
from schemas.vocabulary import Kind
from sinks.adapters.tables import Tables
from sinks.core.logs import LOGS
from sinks.engine import Engine
from sinks.migrate import migrate
from sinks.orders import Orders
from sinks.settings import SinkSettings
from sinks.writer import Writer
from streams.access.core.stage import AccessStage
from tests.sinks.conftest import SinkProcess, Stand, eventually

Make = Callable[[int], Stand]
pytestmark = pytest.mark.timeout(600)


@contextmanager
def engine_of(stand: Stand, beat: Callable[[], None] = lambda: None, **more: int) -> Iterator[Engine]:
    """The engine in this process, so that what it holds can be seen."""
    given = {f.name: getattr(stand.settings, f.name) for f in fields(stand.settings)}
    settings = SinkSettings(
        **given, kafka_bootstrap=stand.kafka.bootstrap, sink_group=stand.name, instance="here", **more
    )  # type: ignore[arg-type]
    migrate(settings)
    writer = Writer(Tables(settings), {}, settings.sink_writers)
    facts = topics.facts(settings, *LOGS)
    engine = Engine(settings, facts, Tables(settings), writer, Orders(Skips), beat)
    engine._thread.start()
    try:
        yield engine
    finally:
        engine._stop.set()
        writer.give_up()
        engine._thread.join(60)
        writer.close()
    assert not engine._thread.is_alive()


def test_an_insert_that_hangs_ends_the_beats_and_one_that_goes_on_brings_them_back(make_stand: Make) -> None:
    stand, beats = make_stand(1), [0.0]
    stand.chains[0].flow(3)
    with engine_of(
        stand, lambda: beats.__setitem__(0, time.monotonic()), sink_range_ms=100, sink_idle_ms=1_000
    ) as engine:
        stand.check()
        process = stand.clickhouse.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            stand.chains[0].flow(3)
            stand.producer.flush()
            eventually(lambda: bool(engine._writing), "an insert is under way")
            eventually(lambda: time.monotonic() - beats[0] > 2.0, "no beat while it hangs")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        stand.check()
        eventually(lambda: time.monotonic() - beats[0] < 2.0, "beats again")


def test_a_backlog_of_all_partitions_never_holds_more_than_sink_buffer_bytes(make_stand: Make) -> None:
    stand, limit = make_stand(3), 256 << 10
    with engine_of(stand, sink_buffer_bytes=limit, sink_range_bytes=64 << 10, sink_idle_ms=1_000) as engine:
        eventually(lambda: len(engine.flows) == len(LOGS) * len(stand.chains), "all partitions are assigned")
        process = stand.clickhouse.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)  # nothing is written, so that what is read piles up
        try:
            for chain in stand.chains:
                chain.flow(20, messages=100)
            stand.producer.flush()
            eventually(lambda: engine.most_held > limit // 2, "a backlog is held")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        stand.check()
    assert engine.most_held <= limit


def _skip_what_it_names(stand: Stand, sink: SinkProcess) -> tuple[str, int]:
    """The sink ends with 78 and names a command; it is done."""
    assert sink.end() == 78, sink.text()
    name, partition, offset = re.findall(
        r"millrace stage skip (\S+)\s+--partition\s+(\d+)\s+--offset\s+(\d+)", sink.text()
    )[-1]
    stages.skip(stand.kafka_settings, name, int(partition), int(offset), "written by hand")
    return name, int(offset)


def test_garbage_in_any_topic_names_the_command_that_skips_it_and_the_ledger_closes(make_stand: Make) -> None:
    stand = make_stand(1)
    (chain,) = stand.chains
    chain.flow(3)
    headers = [("schema", b"other/1"), ("kind", b"data"), ("rows", b"6"), ("platform", b"1"), ("replayed", b"0")]
    stand.send(RAW, 0, headers, b"garbage")
    stand.producer.flush()
    assert _skip_what_it_names(stand, stand.sink()) == ("access", chain.offset)
    _answer_as_access(stand, headers)
    for topic in (READINGS, AGGREGATES):
        stand.send(topic, 0, [], b"garbage")
    chain.flow(3)
    stand.producer.flush()
    assert {_skip_what_it_names(stand, stand.sink())[0] for _ in range(2)} == {"aggregate", AGGREGATES}
    stand.sink()
    stand.check()
    found = stand.db().rows("SELECT received, in_flight, difference, readings_difference FROM ledger")
    assert found == [(stand.expected().received, 0, 0, 0)]


def _answer_as_access(stand: Stand, headers: list[tuple[str, bytes]]) -> None:
    """What access writes for a record that it skips."""
    (chain,) = stand.chains
    stage, offset = AccessStage(), chain.offset
    record = Record(0, offset, chain.epoch, offset, Kind.DATA, dict(headers), b"garbage")
    state = stage.create(0)
    state.apply(Record(0, offset - 1, chain.epoch, offset - 1, Kind.TICK, dict(raw_tick(chain.time_ms)), b""))
    (output,) = state.apply(stage.skipped(record, "by hand"))
    given = [*output.headers, *Provenance(chain.epoch, offset, chain.prev).encode()]
    stand.send(READINGS, 0, given, output.value)
    for row in range(5):
        chain.expected.dead_letters[chain.epoch, 0, offset, row] += 1
    chain.expected.received += 5
    chain.expected.records += 1
    chain.prev, chain.offset, chain.busy_until = offset, offset + 1, offset
    assert chain.stages is not None
    chain.stages.take(offset, Kind.DATA, chain.time_ms, 0)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.long
def test_a_deleted_topic_ends_the_sink_with_78_and_the_commands_that_resolve_it(
    make_stand: Make, running: bool
) -> None:
    stand = make_stand(1)
    stand.chains[0].flow(3)
    sink = stand.sink()
    stand.check()
    if not running:
        sink.kill(signal.SIGTERM)
        assert sink.end() == 0
    admin = clients.admin(stand.kafka_settings)
    admin.delete_topics([AGGREGATES])[AGGREGATES].result(10)
    if not running:
        sink = stand.sink()
    stand.chains[0].tick() if running else None
    assert sink.end() == 78, sink.text()
    assert f"topic {AGGREGATES} was deleted" in sink.text()
    assert "`millrace init`, `millrace stage reset aggregate --from-oldest" in sink.text()
    topics.ensure(stand.kafka_settings, topics.plans(1, 1), 1)
    sink = stand.sink()
    eventually(
        lambda: f"assigned where={AGGREGATES}[0] epoch={1 + stand.facts[AGGREGATES].epoch}" in sink.text(),
        "it starts with the new topic",
        tell=sink.text,
    )
