"""Brokers, beds and workers of the stage tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import KafkaServer
from tests.stage.bed import Bed, Worker
from tests.stage.nursery import Nursery

Start = Callable[..., Worker]
"""(stage, *options, **environment) → a worker process, killed when the test ends."""


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of these tests alone: they re-create telemetry.raw."""
    found = KafkaServer(tmp_path_factory.mktemp("stage-kafka"))
    found.start()
    yield found
    found.kill()


@pytest.fixture
def bed(server: KafkaServer, nursery: Nursery, tmp_path: Path) -> Bed:
    return Bed(server.bootstrap, tmp_path, nursery, seed=int(os.environ.get("SEED", "1")))


@pytest.fixture
def start(bed: Bed) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(stage: str, *options: str, **environment: str) -> Worker:
            worker = Worker(bed, stage, options, environment)
            stack.callback(worker.kill)
            return worker

        yield started
