"""Toy stages as real worker processes on a real Kafka: killed, paused, joined and left, they give exactly the truth."""

import json
import os
import signal
import time

import pytest

from tests.servers import KafkaServer
from tests.stage.bed import PARTITIONS, SESSION_S, Bed, Worker, until
from tests.stage.conftest import Start

LARGE = {"TOY_BALLAST": "700000", "MILLRACE_SNAPSHOT_INTERVAL_S": "1"}
"""5.6 MB of state a partition: two chunks and more."""
DYNAMIC = {"MILLRACE_STATIC_MEMBERSHIP": "false"}


def test_kill_9_of_two_stages_in_a_row_loses_and_doubles_nothing(bed: Bed, start: Start) -> None:
    _kill_again_and_again(bed, start, "kill", 3)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_kill_9_many_times(bed: Bed, start: Start) -> None:
    _kill_again_and_again(bed, start, "chaos", int(os.environ.get("KILLS", "200")))


def _kill_again_and_again(bed: Bed, start: Start, name: str, kills: int) -> None:
    """Each writes two topics; the second, of a large state, reads what the first writes. Each time one of them dies,
    sometimes before it is ready."""
    first, second = f"{name}.a", f"{name}.b"
    bed.virgin(first, second)
    settings = {first: {}, second: {"TOY_SOURCE": f"{first}.out"} | LARGE}
    workers = {stage: start(stage, **more) for stage, more in settings.items()}
    with bed.feeding(per_second=100):
        for worker in workers.values():
            worker.wait_ready()
        for _ in range(kills):
            time.sleep(bed.random.uniform(0, 1.5))
            stage = bed.random.choice([first, second])
            workers[stage].kill()
            workers[stage] = start(stage, **settings[stage])
            if bed.random.random() < 0.8:
                workers[stage].wait_ready()
    bed.wait_applied(first)
    bed.wait_applied(second, f"{first}.out")
    print(f"{kills} kills; {bed.check(first)}; {bed.check(second, after=first)}")
    for worker in workers.values():
        assert worker.stop() < 10


def test_a_zombie_and_a_leaver_change_nothing(bed: Bed, start: Start) -> None:
    """b is paused past its session while a takes over, comes back, then a leaves on SIGTERM."""
    bed.virgin("pair")
    a, b = (start("pair", MILLRACE_INSTANCE=name, **DYNAMIC, **LARGE).wait_ready() for name in "ab")
    with bed.feeding(per_second=60):
        until(lambda: _partitions(a) == _partitions(b) == PARTITIONS / 2, 20, "two partitions each")
        b.signal(signal.SIGSTOP)
        until(lambda: _partitions(a) == PARTITIONS, SESSION_S + 20, "a takes over all")
        time.sleep(0.5)
        b.signal(signal.SIGCONT)
        until(lambda: _partitions(b) == PARTITIONS / 2 == _partitions(a), 20, "b is back")
        assert a.stop() < 10
        until(lambda: _partitions(b) == PARTITIONS, 5, "b has all, at once, because a left the group")
    bed.wait_applied("pair")
    print(bed.check("pair"))
    b.stop()


def _partitions(worker: Worker) -> float:
    return worker.figure('millrace_stage_partitions{stage="pair"}') if worker.ready() else -1


def test_after_sigterm_nothing_is_left_to_do_again(bed: Bed, start: Start) -> None:
    """A long interval between snapshots: only the one at the stop can cover the records."""
    bed.virgin("term")
    bed.feed(100)
    worker = start("term", MILLRACE_SNAPSHOT_INTERVAL_S="600").wait_ready()
    ends = bed.ends("telemetry.raw")
    until(lambda: _records(worker, "term") == sum(ends), 20, "all applied")
    assert bed.committed("term") != ends
    assert worker.stop() < 10
    assert bed.committed("term") == ends
    bed.feed(20)
    again = start("term").wait_ready()
    bed.wait_applied("term")
    assert _records(again, "term") == sum(bed.ends("telemetry.raw")) - sum(ends)
    print(bed.check("term"))


def _records(worker: Worker, stage: str) -> float:
    kinds = ("data", "tick")
    return sum(worker.figure(f'millrace_stage_records_total{{kind="{kind}",stage="{stage}"}}') for kind in kinds)


@pytest.mark.chaos
def test_a_worker_outlives_its_kafka(bed: Bed, start: Start, server: KafkaServer) -> None:
    bed.virgin("outage")
    worker = start("outage").wait_ready()
    bed.feed(50)
    bed.wait_applied("outage")
    server.kill()
    time.sleep(1)
    server.start()
    bed.feed(50)
    bed.wait_applied("outage")
    print(bed.check("outage"))
    worker.stop()


def test_metrics_tell_lag_state_and_snapshots(bed: Bed, start: Start) -> None:
    bed.virgin("seen")
    bed.feed(40)
    worker = start("seen", **LARGE).wait_ready()
    bed.wait_applied("seen")
    assert _records(worker, "seen") == sum(bed.ends("telemetry.raw"))
    until(lambda: worker.figure('millrace_stage_state_items{partition="0",stage="seen",what="words"}') > 0, 5, "gauges")
    assert worker.figure('millrace_stage_lag_records{partition="0",stage="seen"}') == 0
    assert worker.figure('millrace_stage_state_bytes{partition="0",stage="seen"}') > 0
    assert worker.figure('millrace_stage_snapshot_bytes{partition="0",stage="seen"}') > 0
    assert worker.figure('millrace_stage_snapshot_timestamp_seconds{partition="0",stage="seen"}') > time.time() - 60
    assert worker.figure('millrace_stage_apply_seconds_count{stage="seen"}') == sum(bed.ends("telemetry.raw"))
    assert worker.figure('millrace_stage_restore_seconds_count{stage="seen"}') == 1
    assert worker.figure('millrace_stage_rows_total{stage="seen"}') == sum(
        len(json.loads(m.value() or b"[]"))
        for p in range(PARTITIONS)
        for m in bed.read("telemetry.raw", p)
        if m.value()
    )
    assert worker.figure('millrace_stage_snapshot_written_bytes_total{stage="seen"}') > 0
    assert worker.figure('millrace_stage_snapshot_chunks_total{outcome="written",stage="seen"}') > 0
    assert 0 < worker.figure('millrace_stage_snapshot_wait_seconds{partition="0",stage="seen"}') < 1
    worker.stop()
