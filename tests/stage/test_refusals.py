"""A worker that must not go on stops with one clear line, and what the line says to do works. Real Kafka."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.errors import EXIT_FATAL, EXIT_REFUSED
from schemas import topics as names
from schemas.headers import Provenance, raw_data, raw_tick
from tests.servers import KafkaServer
from tests.stage.bed import PARTITIONS, Bed, Worker

LONG = {"MILLRACE_SNAPSHOT_INTERVAL_S": "600"}


@pytest.fixture(scope="module")
def server(kafka_fresh: Callable[[], KafkaServer]) -> KafkaServer:
    return kafka_fresh()


@pytest.fixture
def bed(server: KafkaServer, tmp_path: Path) -> Bed:
    return Bed(server.bootstrap, tmp_path)


@pytest.fixture
def started(bed: Bed) -> Iterator[Callable[..., Worker]]:
    with ExitStack() as stack:

        def start(stage: str, *options: str, **environment: str) -> Worker:
            worker = bed.worker(stage, "0", *options, **environment)
            stack.callback(worker.process.wait, 10)
            stack.callback(worker.process.kill)
            return worker

        yield start


def _refused(worker: Worker, *says: str) -> None:
    assert worker.code() == EXIT_REFUSED, worker.text()
    for words in says:
        assert words in worker.text()


def _some_work(bed: Bed, started: Callable[..., Worker], stage: str) -> None:
    bed.virgin(stage)
    bed.feed(60)
    worker = started(stage)
    bed.wait_applied(stage)
    worker.stop()


def test_a_new_logic_version_waits_until_the_old_one_has_drained(bed: Bed, started: Callable[..., Worker]) -> None:
    _some_work(bed, started, "versions")
    bed.feed(60)
    ends = bed.ends("versions.out")
    worker = started("versions", **LONG).wait_ready()
    bed.wait_written("versions.out", names.RAW)
    worker.kill()  # outputs beyond the snapshot are in the topic now
    assert bed.ends("versions.out") > ends
    _refused(started("versions", TOY_VERSION="2"), "logic version 1", "--drain")
    drained = started("versions", "--drain")
    assert drained.code() == 0, drained.text()
    bed.check("versions")
    second = started("versions", TOY_VERSION="2").wait_ready()
    second.stop()


def test_a_topic_made_anew_is_noticed_twice(bed: Bed, started: Callable[..., Worker]) -> None:
    """First behind the platform's back, then registered by init: the snapshot is still of the old one."""
    _some_work(bed, started, "anew")
    bed.delete(names.RAW)
    bed.create(names.RAW)
    _refused(started("anew"), "made anew", "millrace init")
    bed.make_topics("anew")
    bed.feed(60)
    _refused(started("anew"), "made anew", "--from-oldest")
    worker = started("anew", "--from-oldest").wait_ready()
    bed.wait_applied("anew")
    assert bed.newest("anew.out", 0) == (bed.facts[names.RAW].epoch, bed.ends(names.RAW)[0] - 1)
    worker.stop()


def test_retention_that_overtook_is_no_silent_skip(bed: Bed, started: Callable[..., Worker]) -> None:
    _some_work(bed, started, "kept")
    bed.feed(60)
    ends = bed.ends(names.RAW)
    bed.lose(names.RAW, before=min(ends))
    assert min(ends) > min(bed.committed("kept"))
    _refused(started("kept"), "retention took offsets", "--skip-lost")
    worker = started("kept", "--skip-lost").wait_ready()
    bed.wait_applied("kept")
    worker.stop()
    started("kept").wait_ready().stop()


def test_a_damaged_snapshot_falls_back_to_the_one_before(bed: Bed, started: Callable[..., Worker]) -> None:
    _some_work(bed, started, "damaged")
    for partition in range(PARTITIONS):
        bed.put("state.damaged", partition, b"MRS1 and then rubbish", key=b"%d/a" % partition)
    bed.feed(60)
    worker = started("damaged").wait_ready()
    assert "trying the one before" in worker.text()
    bed.wait_applied("damaged")
    worker.stop()
    bed.check("damaged")
    for partition in range(PARTITIONS):
        for turn in b"ab":
            bed.put("state.damaged", partition, b"rubbish", key=b"%d/%c" % (partition, turn))
    _refused(started("damaged"), "no snapshot of state.damaged/", "can be read")


def test_lost_snapshots_are_not_taken_for_a_first_start(bed: Bed, started: Callable[..., Worker]) -> None:
    _some_work(bed, started, "lost")
    bed.delete("state.lost")
    bed.make_topics("lost")
    _refused(started("lost"), "there is no snapshot, but lost.out holds records")


def test_an_exception_ends_the_process_before_anything_is_committed(bed: Bed, started: Callable[..., Worker]) -> None:
    bed.virgin("poisoned")
    bed.put(names.RAW, 0, b'["poison"]', headers=raw_data(1))
    worker = started("poisoned", TOY_POISON="poison")
    assert worker.code() == EXIT_FATAL
    assert "a poisoned word" in worker.text()
    assert bed.committed("poisoned")[0] <= 0
    assert bed.ends("poisoned.out")[0] == 0
    healed = started("poisoned").wait_ready()
    bed.wait_applied("poisoned")
    bed.check("poisoned")
    healed.stop()


def test_a_record_that_breaks_the_contract_stops_the_worker(bed: Bed, started: Callable[..., Worker]) -> None:
    bed.virgin("broken")
    bed.put(names.RAW, 1, b"", headers=[("kind", b"novelty")])
    _refused(started("broken"), "telemetry.raw/1 offset 0 breaks the contract", "'kind' is unknown")


def test_a_gap_before_a_derived_record_stops_the_reader(bed: Bed, started: Callable[..., Worker]) -> None:
    bed.virgin("writer", "reader")
    for src, prev in ((0, -1), (0, -1), (1, 0), (3, 2)):
        headers = [*raw_tick(src), *Provenance(bed.facts[names.RAW].epoch, src, prev).encode()]
        bed.put("writer.out", 0, b"0", headers=headers)
    _refused(started("reader", TOY_SOURCE="writer.out"), "writer.out/0 offset 3: gap in provenance")


def test_a_second_process_of_the_same_instance_is_refused(bed: Bed, started: Callable[..., Worker]) -> None:
    bed.virgin("alone")
    started("alone").wait_ready()
    _refused(started("alone"), "another process is instance '0' of alone", "MILLRACE_INSTANCE")
