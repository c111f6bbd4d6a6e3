"""Policies and settings of stages: a difference before a change, a history after it, and the way back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import inband
from cli.errors import Exit
from cli.main import millrace
from control.decisions import NO_VERSION, ChangedMeanwhileError
from identity.registry import DeviceRegistry
from runtime.clickhouse.client import ClickHouse
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY, Device, settings_key
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from streams.access.policy import check, decode, shipped
from streams.aggregate.windowing import decode as windowing
from streams.presence import rules
from tests.servers import ClickHouseServer, KafkaServer

Run = Callable[..., Result]
ONE = "roles:\n  meter: {publish: [telemetry/meter]}\nunknown: null\n"


@pytest.fixture(scope="module")
def kafka(kafka_fresh: Callable[[], KafkaServer]) -> KafkaSettings:
    found = KafkaSettings(kafka_bootstrap=kafka_fresh().bootstrap)
    topics.ensure(found, topics.plans(2, 1), 1)
    DeviceRegistry(found).register([Device("motor-1", "motor"), Device("motor-2", "motor"), Device("meter-1", "meter")])
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MigrationSettings]:
    server = ClickHouseServer(tmp_path_factory.mktemp("versions"))
    server.start()
    try:
        found = MigrationSettings(server.url, server.password_file)
        migrate(found)
        yield found
    finally:
        server.stop()


@pytest.fixture
def run(kafka: KafkaSettings, tables: MigrationSettings) -> Run:
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": kafka.kafka_bootstrap,
        "MILLRACE_WAIT_S": "0",  # no service runs that could take a change over
        "MILLRACE_CLICKHOUSE_URL": tables.clickhouse_url,
        "MILLRACE_CLICKHOUSE_PASSWORD_FILE": str(tables.clickhouse_password_file),
    }
    return lambda *words: CliRunner(env=environment).invoke(millrace, words)


@pytest.fixture
def one(tmp_path: Path) -> str:
    (tmp_path / "one.yaml").write_text(ONE)
    return str(tmp_path / "one.yaml")


@pytest.fixture
def default(tmp_path: Path) -> str:
    (tmp_path / "default.yaml").write_text(shipped("default"))
    return str(tmp_path / "default.yaml")


def published(kafka: KafkaSettings) -> tuple[int, bytes]:
    found = inband.published(kafka, POLICY_KEY, decode)
    assert found.value is not None
    return found.newest, found.text


def _windows(kafka: KafkaSettings) -> tuple[int, bytes]:
    found = inband.published(kafka, settings_key("aggregate"), windowing)
    return found.newest, found.text


def stored(tables: MigrationSettings, kafka: KafkaSettings) -> str:
    """Write what is in force into the table of history, as the sink does for each partition."""
    offset, value = published(kafka)
    with ClickHouse(tables) as db:
        for partition in (0, 1):
            db.client.command(
                "INSERT INTO policies (version_epoch, version_offset, raw_epoch, raw_partition, raw_offset, time,"
                " policy, append_time) VALUES (0, {o:UInt64}, 0, {p:UInt16}, 1, now64(3), {t:String}, now64(3))",
                parameters={"o": offset, "p": partition, "t": value.decode()},
            )
    return f"0/{offset}"


def test_a_policy_that_takes_roles_away_is_shown_and_refused_where_nobody_can_be_asked(
    run: Run, kafka: KafkaSettings, one: str, default: str
) -> None:
    assert run("policy", "apply", default, "--yes").exit_code == Exit.OK
    before = published(kafka)
    dry = run("policy", "apply", one, "--dry-run")
    assert dry.exit_code == Exit.OK and "nothing was published: --dry-run" in dry.stdout
    refused = run("policy", "apply", one)
    assert refused.exit_code == Exit.FAILED, refused.output
    for done in (dry, refused):
        assert "removed: motor: 2 active devices have it and would be denied" in done.stdout
        assert "-  motor:" in done.stdout
    assert "use --yes" in refused.stderr
    assert published(kafka) == before
    assert run("policy", "apply", one, "--yes").exit_code == Exit.OK
    assert published(kafka)[1] == check(ONE, "one").encode()


def test_a_policy_that_changes_nothing_is_not_published_again(run: Run, kafka: KafkaSettings, one: str) -> None:
    run("policy", "apply", one, "--yes")
    before = published(kafka)
    assert "says the same; nothing was published" in run("policy", "apply", one).stdout
    assert published(kafka) == before


def test_a_policy_is_not_published_over_one_that_was_not_shown(run: Run, kafka: KafkaSettings, one: str) -> None:
    run("policy", "apply", one, "--yes")
    offset, _ = published(kafka)
    other = check(ONE.replace("telemetry/meter", "event/*"), "other")
    inband.publish(kafka, POLICY_KEY, other.encode(), "see")
    with pytest.raises(ChangedMeanwhileError):
        inband.publish(kafka, POLICY_KEY, check(ONE, "one").encode(), "see", expected=offset)
    assert published(kafka)[1] == other.encode()


def overtaken(monkeypatch: pytest.MonkeyPatch, kafka: KafkaSettings, key: str, value: bytes) -> None:
    """Somebody else publishes `value` after a command has shown its difference, and before it publishes, once."""
    before = inband.publish

    def publish(*given: Any) -> tuple[int, int]:
        monkeypatch.setattr(inband, "publish", before)
        before(kafka, key, value, "see")
        return before(*given)

    monkeypatch.setattr(inband, "publish", publish)


def test_whoever_was_overtaken_with_a_policy_sees_what_he_would_have_overwritten(
    run: Run, kafka: KafkaSettings, one: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("policy", "apply", default, "--yes")
    other = check(ONE.replace("telemetry/meter", "event/*"), "other")
    overtaken(monkeypatch, kafka, POLICY_KEY, other.encode())
    done = run("policy", "apply", one, "--yes")
    offset, value = published(kafka)
    assert done.exit_code == Exit.FAILED and value == other.encode()
    assert "-    - event/*" in done.stdout, "the difference from the version that came between"
    assert f"policy: version 0/{offset} was published meanwhile, so nothing was changed" in done.stderr
    assert "`millrace policy show` shows it; run this command again" in done.stderr
    assert run("policy", "apply", one, "--yes").exit_code == Exit.OK


def test_whoever_was_overtaken_with_settings_of_a_stage_sees_what_he_would_have_overwritten(
    run: Run, kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, file = settings_key("presence"), tmp_path / "presence.yaml"
    file.write_text("settle: 7s\n")
    overtaken(monkeypatch, kafka, key, rules.check("settle: 6s", "other").encode())
    done = run("presence", "apply", str(file))
    found = inband.published(kafka, key, rules.decode)
    assert done.exit_code == Exit.FAILED and found.value is not None and found.value.settle_ms == 6_000
    assert "-settle: 6s" in done.stdout and "+settle: 7s" in done.stdout
    assert f"version {found.name} was published meanwhile, so nothing was changed" in done.stderr
    assert "`millrace presence show` shows it; run this command again" in done.stderr
    assert run("presence", "apply", str(file)).exit_code == Exit.OK


def test_history_lists_versions_and_rollback_publishes_an_old_one_as_a_new_one(
    run: Run, kafka: KafkaSettings, tables: MigrationSettings, one: str, default: str
) -> None:
    run("policy", "apply", default, "--yes")
    first = stored(tables, kafka)
    run("policy", "apply", one, "--yes")
    second = stored(tables, kafka)
    newest, oldest = run("policy", "history").stdout.splitlines()[:2]
    assert newest.startswith(second) and "-motor" in newest
    assert oldest.startswith(first) and "+motor" in oldest
    assert "motor" in run("policy", "show", "--version", first).stdout
    assert "motor" not in run("policy", "show").stdout
    back = run("policy", "rollback", first)
    assert back.exit_code == Exit.OK, back.output
    offset, value = published(kafka)
    assert value == check(shipped("default"), "default").encode()
    assert offset > int(second.split("/")[1])
    nowhere = run("policy", "rollback", "0/999999")
    assert nowhere.exit_code == Exit.FAILED and "`millrace policy history` lists them" in nowhere.stderr
    assert run("policy", "rollback", "yesterday").exit_code == Exit.USAGE


def test_settings_of_a_stage_have_a_difference_a_history_and_a_way_back(
    run: Run, kafka: KafkaSettings, tables: MigrationSettings, tmp_path: Path
) -> None:
    file = tmp_path / "windows.yaml"
    file.write_text("window_s: 30\n")
    dry = run("windows", "apply", str(file), "--dry-run")
    assert dry.exit_code == Exit.OK and "+window_s: 30" in dry.stdout, dry.output
    assert _windows(kafka)[0] == NO_VERSION
    first = run("windows", "apply", str(file))
    assert first.exit_code == Exit.OK and "windows 0/" in first.stdout
    offset, value = _windows(kafka)
    with ClickHouse(tables) as db:
        db.client.command(
            "INSERT INTO stage_settings (version_epoch, version_offset, raw_epoch, raw_partition, raw_offset, time,"
            " stage, settings, append_time) VALUES (0, {o:UInt64}, 0, 0, 1,"
            " now64(3), 'aggregate', {t:String}, now64(3))",
            parameters={"o": offset, "t": value.decode()},
        )
    file.write_text("window_s: 20\n")
    assert "-window_s: 30" in run("windows", "apply", str(file)).stdout
    assert run("windows", "history").stdout.startswith(f"0/{offset}")
    assert run("windows", "rollback", f"0/{offset}").exit_code == Exit.OK
    assert _windows(kafka)[1] == value
