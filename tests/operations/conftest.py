"""Kafka, ClickHouse and a sink to be repaired, of this folder's own: those of the tests of the sink."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from cli.main import millrace
from tests.sinks.conftest import Stand, database, db, make_stand, migrated, servers

__all__ = ["database", "db", "make_stand", "migrated", "servers"]

Command = Callable[..., Result]


@contextmanager
def flowing(write: Callable[[], None]) -> Iterator[None]:
    """Writes go on beside the test, twenty a second: without ticks the sink's last ranges stay open."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(0.05):
            write()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def tick(stand: Stand) -> None:
    for chain in stand.chains:
        chain.tick()
    stand.producer.flush(1)


@pytest.fixture
def command() -> Command:
    """`command(stand, "backup", …)`: runs the command against the stand; `.exit_code`, `.output`, `.exception`."""

    def run(stand: Stand, *words: str) -> Result:
        environment = os.environ | {
            "MILLRACE_KAFKA_BOOTSTRAP": stand.kafka.bootstrap,
            "MILLRACE_CLICKHOUSE_URL": stand.settings.clickhouse_url,
            "MILLRACE_CLICKHOUSE_PASSWORD_FILE": str(stand.settings.clickhouse_password_file),
            "MILLRACE_SINK_GROUP": stand.name,
        }
        return CliRunner(env=environment).invoke(millrace, words, standalone_mode=False)

    return run
