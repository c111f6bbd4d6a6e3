"""Disks that are full: everybody waits and says so, nothing is lost, and the flow goes on when there is room.

Each engine has a file system of its own, in memory, of a few MB. To mount one takes root: who is not fails here, and
runs `unshare -Urm make chaos`. The whole platform on full disks: tests/local/test_full_disks.py.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.errors import EXIT_FATAL
from tests.operations.conftest import flowing
from tests.operations.flows import flow
from tests.servers import ClickHouseServer, KafkaServer
from tests.sinks.conftest import Stand, eventually

pytestmark = pytest.mark.chaos
BLOCK = 4096


class Disk:
    """A file system of so many MB."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "millrace-test", folder], check=True)
        self.folder, self._ballast = folder, folder / "ballast"

    @property
    def free(self) -> int:
        return os.statvfs(self.folder).f_bavail * BLOCK

    def fill(self, leave: int) -> None:
        """Take all of it but `leave` bytes."""
        with self._ballast.open("ab") as file:
            file.write(bytes(max(0, self.free - leave)))

    def clear(self) -> None:
        self._ballast.unlink()


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    made = Disk(folder, megabytes)
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def write_until_it_ends(stand: Stand, broker: KafkaServer) -> None:
    for _ in range(200):
        stand.chains[0].flow(1, messages=200)
        stand.producer.flush(0.2)
        if broker.process is not None and broker.process.exit_code() is not None:
            return
    raise AssertionError("Kafka lives on a full disk")


@contextmanager
def supervised(stand: Stand) -> Iterator[None]:
    """A sink that is started again as `millrace up` does it: after an end with 70, and no other."""
    done, codes = threading.Event(), set[int]()

    def watch() -> None:
        while not done.wait(0.2):
            code = stand.sinks[-1].process.poll()
            if code is not None:
                codes.add(code)
                stand.sink()

    stand.sink()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
        assert codes <= {EXIT_FATAL}
    finally:
        done.set()
        thread.join()


def test_a_full_disk_of_clickhouse_makes_the_sink_wait(kafka_fresh: Callable[[], KafkaServer], tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 256) as small:
        server = ClickHouseServer(small.folder)
        server.start()
        stand = Stand(kafka_fresh(), server, "full", tmp_path, 1)
        try:
            sink = stand.sink()
            flow(stand, 10)
            stand.check()
            small.fill(leave=100_000)
            with flowing(lambda: flow(stand, 1)):
                eventually(lambda: "NOT_ENOUGH_SPACE" in sink.text(), "the sink says that there is no room")
                before = stand.progress()
                flow_s = time.monotonic() + 2
                eventually(lambda: time.monotonic() > flow_s, "some more comes in")
            assert stand.progress() == before
            assert sink.process.poll() is None, "it waits; it does not end"
            small.clear()
            stand.check()
            assert sink.process.poll() is None
        finally:
            stand.close()
            server.kill()


def test_a_full_disk_of_kafka_ends_the_broker_and_loses_nothing(clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 192) as small:
        broker = KafkaServer(small.folder)
        broker.start()
        stand = Stand(broker, clickhouse, f"full_{os.getpid()}", tmp_path, 1)
        try:
            with supervised(stand):
                flow(stand, 10)
                stand.check()
                small.fill(leave=200_000)
                write_until_it_ends(stand, broker)
                assert len(stand.producer) > 0, "records that Kafka has not acknowledged wait with their writer"
                assert "No space left on device" in broker.engine.folder.with_suffix(".log").read_text()
                small.clear()
                broker.start()
                stand.producer.flush(60)
                assert len(stand.producer) == 0
                stand.check()
        finally:
            stand.close()
            broker.kill()
