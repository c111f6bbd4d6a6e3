"""A record that nobody wrote by the contract stops access with the command that steps over it; the ledger closes."""

from collections.abc import Callable, Iterator

import pytest

from operations import stages
from runtime.errors import EXIT_REFUSED
from runtime.kafka.skips import read_skips
from runtime.stage.contract import Record
from schemas import readings
from schemas import topics as names
from schemas.errors import ContractError
from schemas.headers import Counts, Headers, raw_data
from schemas.skips import Skip, declared
from schemas.vocabulary import Kind, Verdict
from streams.access.core.stage import AccessStage
from streams.access.reprocess import Reprocessor
from streams.aggregate.core.stage import AggregateStage
from streams.presence.core.stage import PresenceStage
from tests.access.support import data, message, tick
from tests.servers import KafkaServer
from tests.support.service import StageService, until


def _broken(offset: int, rows: int) -> Record:
    headers = dict(raw_data(rows, platform=1, replayed=2))
    return Record(0, offset, 0, offset, Kind.DATA, headers, b"garbage")


def test_a_skipped_record_becomes_as_many_dead_letters_as_its_headers_declare() -> None:
    stage = AccessStage()
    state = stage.create(0)
    state.apply(tick(0, 5000))
    (output,) = state.apply(stage.skipped(_broken(1, 8), "by hand"))
    found = dict(output.headers)
    batch = readings.read(found, output.value)
    assert Counts.parse(found) == Counts(received=7, dead_letters=7, replayed=2)
    assert batch.column("verdict").to_pylist() == [Verdict.DEAD_LETTER] * 7
    assert set(batch.column("reason").to_pylist()) == {"skipped: by hand"}
    assert batch.column("raw_row").to_pylist() == list(range(7))


@pytest.mark.parametrize("given", [raw_data(3), [("kind", b"data"), ("kind", b"tick")], []])
def test_a_record_that_access_skipped_is_answered_the_same_when_it_is_decoded_again(given: Headers) -> None:
    access = AccessStage()
    record = Record(0, 4, 0, 4, Kind.DATA, dict(given), b"garbage")
    (once,) = access.create(0).apply(access.skipped(record, "by hand"))
    answer = Reprocessor(0, 0, (), {4: Skip(names.RAW, "by hand", 0)}).answer(4, given, b"garbage")
    assert answer is not None and answer[1] == once.value
    assert Counts.parse(dict(answer[0])) == Counts.parse(dict(once.headers))
    with pytest.raises(ContractError):
        Reprocessor(0, 0, ()).answer(4, given, b"garbage")


def test_stages_behind_access_take_the_dead_letters_of_a_skipped_record_and_hear_no_device() -> None:
    access = AccessStage()
    (output,) = access.create(0).apply(access.skipped(_broken(0, 3), "by hand"))
    record = Record(0, 0, 0, 0, Kind.DATA, dict(output.headers), output.value)
    presence = PresenceStage().create(0)
    presence.apply(record)
    assert presence.sizes()["devices"] == 0
    AggregateStage().create(0).apply(record)


@pytest.mark.parametrize("headers", [{}, {"kind": b"data"}, {"kind": b"x", "readings": b"-4", "time": b"?"}])
def test_a_stage_of_readings_can_skip_a_record_with_any_headers(headers: dict[str, bytes]) -> None:
    stage = AggregateStage()
    record = Record(0, 3, 0, 3, Kind.DATA, headers, b"garbage")
    stage.create(0).apply(stage.skipped(record, "by hand"))


@pytest.fixture(scope="module")
def platform(
    kafka_fresh: Callable[[], KafkaServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StageService]:
    found = StageService(kafka_fresh(), tmp_path_factory.mktemp("skip"), "access", names.RAW, 1)
    yield found
    found.close()


def test_garbage_in_raw_stops_access_with_a_command_that_steps_over_it(platform: StageService) -> None:
    settings = platform.settings
    platform.send(0, data(0, [message("s-1", '{"a":1}')]))
    platform.producer.produce(names.RAW, b"garbage", partition=0)
    platform.producer.produce(names.RAW, b"garbage", partition=0, headers=raw_data(5))
    platform.send(0, data(3, [message("s-1", '{"a":1}')]))
    platform.flush()
    for offset in (1, 2):
        platform.start()
        assert platform.processes[-1].wait(60) == EXIT_REFUSED
        assert f"millrace stage skip access --partition 0 --offset {offset} --reason" in platform.log.read_text()
        stages.skip(settings, "access", 0, offset, "written by hand")
    platform.start()
    until(lambda: platform.high(names.READINGS, 0) == 4, 60, "all answers")
    received = dead = 0
    for found in platform.read(names.READINGS, 0):
        counts = Counts.parse(dict(found.headers() or ()))
        received, dead = received + counts.received, dead + counts.dead_letters
        assert counts.received == counts.accepted + counts.denied + counts.dead_letters + counts.duplicates
    assert received == 7 == sum(declared(m.headers()).messages for m in platform.read(names.RAW, 0))
    assert dead >= 5
    until(lambda: next(stages.inspect(settings, "access")).position == 4, 60, "a snapshot")
    inspected = next(stages.inspect(settings, "access"))
    assert (inspected.error, inspected.lag, list(inspected.skips)) == ("", 0, [1, 2])
    with pytest.raises(stages.StageError, match=r"has applied .* already"):
        stages.skip(settings, "access", 0, 3, "too late")
    with pytest.raises(stages.StageError, match=r"is not in telemetry\.raw"):
        stages.skip(settings, "access", 0, 99, "not there")
    assert sorted(read_skips(settings).topic(names.RAW, 0, 0)) == [1, 2]
