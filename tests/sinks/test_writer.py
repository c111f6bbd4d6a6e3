"""When an insert asks which rows are there already, and when its token is enough."""

import threading
from collections.abc import Callable

from runtime.errors import RetryableError
from runtime.stage.provenance import START
from schemas.vocabulary import Kind
from sinks import writer as module
from sinks.core.flow import Flow, Range
from sinks.core.inserts import Insert
from sinks.core.logs import LOGS
from sinks.core.start import Start
from sinks.metrics import DelayHistogram
from sinks.writer import Writer
from tests.sinks.busy import busy
from tests.sinks.flows import RULE, flow, log_of, ranges_of
from tests.support.waiting import wait_for


class Recorder:
    """Tables that note whether they were asked, and are away for the first `failures` inserts."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.asked = failures, list[bool]()

    def insert(self, insert: Insert, check: bool) -> None:
        self.asked.append(check)
        if len(self.asked) <= self.failures:
            raise RetryableError("away")


def _second_range() -> tuple[Flow, Range]:
    """A range after the first one, which is the one that always asks."""
    found = flow(Start(0, START, RULE, START, committed=True))
    for record in log_of([(Kind.DATA, 0, 0, 1, False), (Kind.TICK, 0, 0, 1, False)] * 2):
        found.take(record)
    first = found.next()
    assert first is not None and first.check
    found.stored(first)
    found.committed()
    second = found.next()
    assert second is not None and not second.check
    return found, second


def _write(tables: Recorder, of: Flow, part: Range) -> list[bool]:
    writer = Writer(tables, {}, threads=1)  # type: ignore[arg-type]
    assert writer.write(of, part).result(30)
    writer.close()
    return tables.asked


def test_a_token_is_enough_on_the_first_try() -> None:
    assert _write(Recorder(), *_second_range()) == [False]


def test_a_repeat_asks_since_the_token_may_be_forgotten() -> None:
    assert _write(Recorder(failures=1), *_second_range()) == [False, True]


def test_after_a_standstill_inserts_ask_until_kafka_takes_a_commit() -> None:
    of, part = _second_range()
    of.doubt = True
    assert _write(Recorder(), of, part) == [True]
    of.stored(part)
    of.committed()
    assert not of.doubt


def test_a_range_that_waited_for_long_asks(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "STANDSTILL_S", -1.0)
    assert _write(Recorder(), *_second_range()) == [True]


def test_the_delay_of_each_anomaly_is_observed() -> None:
    parts, chain = ranges_of(busy, stages=True)
    assert chain.stages is not None
    delays = DelayHistogram("delay", "of a test")
    writer = Writer(Recorder(), {"anomalies": delays}, threads=1)  # type: ignore[arg-type]
    start = Start(0, START, RULE, START, committed=True)
    for topic in ("telemetry.anomalies", "telemetry.presence"):
        assert writer.write(Flow(topic, 0, 3, start, RULE, LOGS[topic].reader(0, "here")), parts[topic]).result(30)
    writer.close()
    observed = {s.name: s.value for family in delays.collect() for s in family.samples}
    assert observed["delay_count"] == chain.stages.expected.tables["anomalies"].total() > 0
    assert observed["delay_sum"] < 60 * observed["delay_count"]


class Away(Recorder):
    """Tables that are never there. `then` is done upon each try."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(failures=1_000_000)
        self._then = then

    def insert(self, insert: Insert, check: bool) -> None:
        self._then()
        super().insert(insert, check)


def test_nothing_more_is_inserted_for_a_partition_that_was_taken_away() -> None:
    of, part = _second_range()
    tables = Away(lambda: setattr(of, "owned", False))
    writer = Writer(tables, {}, threads=1)  # type: ignore[arg-type]
    assert writer.write(of, part).result(30) is False
    assert len(tables.asked) == 1
    assert writer.trouble == {}, "it is another sink's trouble now"
    writer.close()


def test_a_stop_does_not_wait_for_a_clickhouse_that_is_away_and_readiness_says_why_until_then() -> None:
    of, part = _second_range()
    tried = threading.Event()
    writer = Writer(Away(tried.set), {}, threads=1)  # type: ignore[arg-type]
    found = writer.write(of, part)
    assert tried.wait(30)
    wait_for(lambda: writer.trouble == {part.where: "away"}, "the reason", 30)
    writer.give_up()
    assert found.result(30) is False
    writer.close()


def test_trouble_ends_with_the_insert_that_succeeds() -> None:
    of, part = _second_range()
    writer = Writer(Recorder(failures=2), {}, threads=1)  # type: ignore[arg-type]
    assert writer.write(of, part).result(30)
    assert writer.trouble == {}
    writer.close()
