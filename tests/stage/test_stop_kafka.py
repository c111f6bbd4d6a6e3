"""What a worker stores at a SIGTERM is what a replay of the log gives, byte for byte. Real processes, real Kafka."""

import random
from typing import Any

import pytest

from runtime.stage import store
from runtime.stage.contract import Frozen, Record
from runtime.stage.newest import newest
from schemas import topics as names
from schemas.headers import kind_of
from tests.stage.bed import PARTITIONS, Bed, until
from tests.stage.conftest import Start
from tests.stage.toy import Toy
from tests.support.states import as_bytes, stored

SNAPSHOTS = 'millrace_stage_snapshots_total{stage="%s"}'
STOPS = 6
BALLAST = {"small": 100, "large": (8 << 20) // 8}
"""Numbers of a state: 8 bytes each."""


def replayed(bed: Bed, environment: dict[str, str], partition: int, position: int) -> bytes:
    """The state after the records of telemetry.raw below `position`."""
    state = Toy(environment).create(partition)
    for message in bed.read(names.RAW, partition):
        offset, headers = message.offset() or 0, dict(message.headers() or ())
        if offset < position:
            state.apply(Record(partition, offset, 0, offset, kind_of(headers), headers, message.value() or b""))
    return stored(state)


def found(bed: Bed, stage: str, partition: int) -> tuple[int, Frozen]:
    """(position, state) of the newest snapshot."""
    with store.Reader(bed.settings) as reader:
        one = newest(reader, names.state_topic(stage), partition)
    assert one.snapshot is not None
    assert one.state is not None
    return one.snapshot.position, one.state


@pytest.mark.parametrize("size", ["small", pytest.param("large", marks=pytest.mark.long)])
def test_a_snapshot_taken_at_a_stop_is_the_replay_of_the_log(bed: Bed, start: Start, size: str) -> None:
    """Snapshots follow each other without a pause, so that most stops come in the middle of one."""
    stage = f"stop-{size}"
    bed.virgin(stage)
    dice = random.Random(bed.seed)
    environment: dict[str, str] = {
        "TOY_BALLAST": str(BALLAST[size]),
        "MILLRACE_SNAPSHOT_INTERVAL_S": "0.1",
        "MILLRACE_SNAPSHOT_BYTES_PER_S": str(1 << 30),
    }
    before: list[Any] = [0] * PARTITIONS
    with bed.feeding(per_second=200):
        for _ in range(STOPS):
            worker = start(stage, **environment).wait_ready()
            wanted = dice.randrange(4, 10)
            until(lambda w=worker, n=wanted: w.figure(SNAPSHOTS % stage) >= n, 60, "some snapshots")
            worker.stop()
            for partition in range(PARTITIONS):
                position, state = found(bed, stage, partition)
                assert position == bed.committed(stage)[partition] >= before[partition]
                assert as_bytes(state) == replayed(bed, environment | {"TOY_NAME": stage}, partition, position)
                before[partition] = position
    start(stage, **environment).wait_ready()
    bed.wait_applied(stage)
    print(bed.check(stage))
