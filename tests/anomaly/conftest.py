"""A Kafka, a migrated database and the command, for the tests of this folder that need them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import millrace
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from tests.servers import ClickHouseServer, KafkaServer

Call = Callable[..., str]


@pytest.fixture(scope="module")
def kafka_settings(kafka_fresh: Callable[[], KafkaServer]) -> KafkaSettings:
    found = KafkaSettings(kafka_bootstrap=kafka_fresh().bootstrap)
    topics.ensure(found, topics.plans(2, 1), 1)
    return found


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouseServer, request: pytest.FixtureRequest) -> MigrationSettings:
    url = clickhouse.url.rsplit("/", 1)[0] + "/" + request.module.__name__.rpartition(".")[2]
    found = MigrationSettings(url, clickhouse.password_file, clickhouse_timeout_s=20)
    migrate(found)
    return found


@pytest.fixture
def call(
    kafka_settings: KafkaSettings, database: MigrationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", kafka_settings.kafka_bootstrap)
    monkeypatch.setenv("MILLRACE_WAIT_S", "0")  # no relay runs here
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_URL", database.clickhouse_url)
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_PASSWORD_FILE", str(database.clickhouse_password_file))

    def run(*words: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(millrace, words)
        assert done.exit_code == exit_code, (done.output, done.exception)
        return done.output

    return run
