"""Which platform a command speaks to: a table of what is given and what is meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.target import NoPlatformError, Target, TwoPlatformsError, find
from runtime.settings import SettingsError

Make = Callable[[str], Path]
KAFKA, CLICKHOUSE, DATA = "MILLRACE_KAFKA_BOOTSTRAP", "MILLRACE_CLICKHOUSE_URL", "MILLRACE_DATA"
OTHER = {KAFKA: "other:1", CLICKHOUSE: "http://owner@other:2/millrace"}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The folder of a platform: Kafka is NAME:9092."""

    def platform(name: str) -> Path:
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        (run / "env").write_text(f"{KAFKA}={name}:9092\n{CLICKHOUSE}=http://owner@{name}:8123/millrace\n")
        return run.parent

    return platform


def test_a_folder_that_is_given_beats_every_address_of_the_environment(make: Make) -> None:
    own = OTHER | {
        "MILLRACE_KAFKA_SECURITY": "/other.properties",
        "MILLRACE_SETTINGS_FILE": "/other.toml",
        "MILLRACE_CA_FILE": "/other/identity/ca.crt",
        "MILLRACE_CLICKHOUSE_TIMEOUT_S": "5",
        DATA: "/other",
    }
    found = find(make("mine"), own)
    assert found.values[KAFKA] == "mine:9092"
    assert found.values[CLICKHOUSE] == "http://owner@mine:8123/millrace"
    assert found.values["MILLRACE_CLICKHOUSE_TIMEOUT_S"] == "5", "what is not an address stays"
    assert not {"MILLRACE_KAFKA_SECURITY", "MILLRACE_SETTINGS_FILE", "MILLRACE_CA_FILE"} & set(found.values)


@pytest.mark.parametrize("own", [{}, OTHER])
def test_a_folder_without_a_platform_is_an_error_and_never_another_platform(
    own: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(
        NoPlatformError, match=f"no platform in {tmp_path}/wrong: `millrace up --data {tmp_path}/wrong`"
    ):
        find(tmp_path / "wrong", own)


def test_with_nothing_given_there_is_no_platform_and_no_default_address(tmp_path: Path) -> None:
    with pytest.raises(NoPlatformError, match="no platform is named"):
        find(None, {"MILLRACE_LOG_LEVEL": "info"}, tmp_path / "data")
    with pytest.raises(NoPlatformError, match=f"MILLRACE_DATA={tmp_path}: there is no platform"):
        find(None, {DATA: str(tmp_path)}, tmp_path / "data")


def test_the_folder_here_is_meant_when_nothing_else_is_named(make: Make) -> None:
    assert find(None, {}, make("data")).values[KAFKA] == "data:9092"


def test_an_environment_of_another_platform_beats_the_folder_here_as_a_whole(make: Make, tmp_path: Path) -> None:
    here = make("data")
    found = find(None, {KAFKA: "other:1"}, here)
    assert found == Target(Path(), {KAFKA: "other:1"}, "the environment"), "no ClickHouse of the folder is mixed in"
    ca = {"MILLRACE_CA_FILE": str(tmp_path / "other" / "identity" / "ca.crt")}
    assert find(None, OTHER | ca, here).folder == tmp_path / "other"


def test_an_environment_that_agrees_with_the_folder_is_that_folder(make: Make) -> None:
    here = make("data")
    own = {KAFKA: "data:9092", "MILLRACE_SINK_GROUP": "x"}
    found = find(None, own, here)
    assert (found.folder, found.origin) == (here, str(here))
    assert found.values[CLICKHOUSE].endswith("@data:8123/millrace") and found.values["MILLRACE_SINK_GROUP"] == "x"


def test_a_named_folder_and_an_environment_of_another_platform_are_refused(make: Make, tmp_path: Path) -> None:
    own = {DATA: str(make("mine")), KAFKA: "other:1"}
    with pytest.raises(TwoPlatformsError, match=r"KAFKA_BOOTSTRAP is other:1, in .*/mine/run/env mine:9092"):
        find(None, own, tmp_path / "data")
    assert find(None, own | {KAFKA: "mine:9092"}, tmp_path / "data").values[CLICKHOUSE].endswith("mine:8123/millrace")


def test_in_a_container_the_environment_alone_is_the_platform(tmp_path: Path) -> None:
    """As docker-compose's operator: MILLRACE_DATA holds certificates only."""
    found = find(None, OTHER | {DATA: str(tmp_path)}, tmp_path / "data")
    assert (found.folder, found.origin, found.values[KAFKA]) == (tmp_path, "the environment", "other:1")


def test_a_settings_file_may_name_the_platform(tmp_path: Path) -> None:
    found = find(None, {"MILLRACE_SETTINGS_FILE": "/etc/millrace.toml"}, tmp_path / "data")
    assert found.origin == "the environment"


def test_the_name_of_a_platform_shows_addresses_and_no_password(make: Make) -> None:
    assert str(find(make("mine"), {})).endswith("/mine (Kafka mine:9092, ClickHouse http://owner@mine:8123/millrace)")
    secret = Target(Path(), {CLICKHOUSE: "https://owner:se:cr@et@host:1/db"}, "the environment")
    assert str(secret) == "the platform of the environment (ClickHouse https://owner@host:1/db)"


def test_a_file_of_addresses_that_cannot_be_read_is_named(make: Make) -> None:
    folder = make("mine")
    (folder / "run" / "env").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="mine/run/env cannot be read"):
        find(folder, {})
