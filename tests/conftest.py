"""Real servers. The session's are shared: use topics, client ids and databases of your own. Kill only fresh ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import ClickHouseServer, KafkaServer, MosquittoServer, Server

S = TypeVar("S", bound=Server)

# on a busy machine one example may take long; what is slow for long is caught by pytest's own timeout
# no test depends on how fast the machine is
settings.register_profile("millrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("millrace")

FIRST = (
    "sinks/test_sink.py",
    "local/test_full_disks.py",
    "cli/test_commands.py",
    "stage/test_refusals.py",
    "sinks/test_windows.py",
    "aggregate/test_law.py",
    "local/test_clickhouse_attacks.py",
    "local/test_platform.py",
    "sinks/test_tables.py",
    "sinks/test_engine.py",
    "operations/test_dry_run.py",
    "operations/test_correct.py",
    "control/test_applied.py",
    "cli/test_demo.py",
)
"""Files that take a minute and more, relative to tests/: they go first, so that none is left over at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


@contextmanager
def _running(server: S) -> Iterator[S]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def _factory(kind: Callable[[Path], S], folders: pytest.TempPathFactory) -> Iterator[Callable[[], S]]:
    made: list[S] = []

    def make() -> S:
        server = kind(folders.mktemp(kind.__name__))
        made.append(server)
        server.start()
        return server

    try:
        yield make
    finally:
        for server in made:
            server.kill()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A KRaft broker: `.bootstrap`."""
    with _running(KafkaServer(tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """A broker: `.url`, `.tls_url` for devices; `.bridge_url`, `.bridge_user` and `.bridge_password` for bridges."""
    with _running(MosquittoServer(tmp_path_factory.mktemp("mosquitto"))) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """ClickHouse's engine over HTTP: `.url`, `.host`, `.port`, `.user`, `.password`, `.password_file`."""
    with _running(ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))) as server:
        yield server


@pytest.fixture(scope="module")
def kafka_fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], KafkaServer]]:
    """Makes brokers of your own, with virgin topics: `.kill()`, `.stop()`, `.start()` on the same data and port."""
    with _factory(KafkaServer, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def mosquitto_fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], MosquittoServer]]:
    with _factory(MosquittoServer, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def clickhouse_fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ClickHouseServer]]:
    with _factory(ClickHouseServer, tmp_path_factory) as make:
        yield make
