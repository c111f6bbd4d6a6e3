"""Hours of a fleet through the real workers, which are killed and replaced: windows add up to what devices said."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from runtime.stage import newest, store
from schemas import topics as names
from schemas.aggregates import DEVICE
from streams.aggregate import app
from tests.aggregate.day import BEGIN_MS, Day, difference, merged, partials_of
from tests.aggregate.workers import Platform, Worker
from tests.servers import KafkaServer

PARTITIONS = 2
TICK_S = 30
REFUSED = 78
"""Exit code of a worker that says what to do before it may start."""


@pytest.fixture
def platform(kafka_fresh: Callable[[], KafkaServer], tmp_path: Path) -> Iterator[Platform]:
    found = Platform(kafka_fresh().bootstrap, tmp_path, PARTITIONS)
    yield found
    found.close()


NOTHING = {"texts": 0, "refused": 0, "open": 0}


@pytest.mark.long
def test_windows_are_exact_through_kills_and_a_new_logic_version(platform: Platform) -> None:
    """Kills of both stages; then the group is killed with outputs beyond its snapshot, the new version refuses, the old
    one drains, the new one goes on."""
    day = Day(devices=200, hours=2, interval_s=60, partitions=PARTITIONS)
    hours = iter(range(BEGIN_MS, day.end_ms, (day.end_ms - BEGIN_MS) // 6))
    access, aggregate = platform.worker("streams.access").start(), platform.worker("streams.aggregate").start()
    day.controls(platform.send)

    def send(until_ms: int) -> None:
        day.send(platform.send, until_ms, TICK_S)
        platform.flush()

    next(hours)
    for worker in (aggregate, access, aggregate):
        before = platform.ends(names.AGGREGATES)
        send(next(hours))
        platform.wait_moved(before)
        worker.end()
        worker.start()
    newer = upgraded(platform, aggregate, lambda: send(next(hours)))
    send(day.end_ms + 20 * 60_000)
    platform.wait_done()
    assert versions(platform, newer) == {app.Stage.logic_version + 1}
    compare(platform, day)
    assert access.end(signal.SIGTERM) == 0, access.text()


def upgraded(platform: Platform, old: Worker, send: Callable[[], None]) -> Worker:
    """The old version is killed in mid-flow, after it wrote what no snapshot covers; its successor, at work."""
    platform.wait_done()
    old.end(signal.SIGTERM)
    rare = platform.worker("streams.aggregate", MILLRACE_SNAPSHOT_INTERVAL_S="600").start()
    before = platform.ends(names.AGGREGATES)
    send()
    platform.wait_moved(before)
    rare.end()
    newer = platform.worker("tests.aggregate.newer").start()
    assert newer.code() == REFUSED, newer.text()
    assert "--drain" in newer.text()
    assert old.start("--drain").code() == 0, old.text()
    return newer.start()


def versions(platform: Platform, newer: Worker) -> set[int]:
    """Logic versions of the newest snapshots, once the worker has stopped."""
    assert newer.end(signal.SIGTERM) == 0, newer.text()
    topic = names.state_topic("aggregate")
    with store.Reader(platform.settings) as reader:
        stored = [newest.newest(reader, topic, partition).snapshot for partition in range(PARTITIONS)]
    return {found.logic_version for found in stored if found is not None}


def compare(platform: Platform, day: Day) -> None:
    """Devices window by window; groups in all."""
    for partition in range(PARTITIONS):
        found, counts = platform.partials(partition)
        scope, readings = found["scope"].cast(pa.string()), day.readings(partition)
        of_devices = partials_of(found.filter(pc.equal(scope, DEVICE)))
        assert difference(day.truth(partition), merged(of_devices)) == []
        assert counts == dict.fromkeys(("readings", "folded", "emitted"), readings) | NOTHING
        for group in ("role", "site"):
            assert pc.sum(found["count"].filter(pc.equal(scope, group))).as_py() == readings
