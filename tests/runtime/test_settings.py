from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.settings import SettingsError, describe, load, setting


@dataclass(frozen=True)
class Example:
    name: str = setting(doc="who")
    size_bytes: int = setting(10, doc="how much", low=1, high=100)
    fast: bool = setting(False, doc="hurry")
    form: str = setting("json", doc="form", choices=("json", "human"))
    file: Path | None = setting(None, doc="a file")
    hosts: tuple[str, ...] = setting(("a",), doc="hosts")


def test_values_come_from_the_environment_then_the_file_then_the_default(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('name = "file"\nsize_bytes = 20\nhosts = ["x", "y"]\n')
    got = load(Example, {"MILLRACE_SETTINGS_FILE": str(file), "MILLRACE_NAME": "env", "MILLRACE_FAST": "yes"})
    assert got == Example("env", 20, True, "json", None, ("x", "y"))


def test_an_item_of_a_list_may_hold_a_comma(tmp_path: Path) -> None:
    assert load(Example, {"MILLRACE_NAME": "a", "MILLRACE_HOSTS": r"x\,y, z"}).hosts == ("x,y", "z")
    file = tmp_path / "s.toml"
    file.write_text('name = "file"\nhosts = ["x,y", "z"]\n')
    assert load(Example, {"MILLRACE_SETTINGS_FILE": str(file)}).hosts == ("x,y", "z")


def test_every_mistake_is_reported_at_once_with_name_value_and_meaning() -> None:
    bad = {"MILLRACE_SIZE_BYTES": "0", "MILLRACE_FAST": "perhaps", "MILLRACE_FORM": "xml"}
    with pytest.raises(SettingsError) as caught:
        load(Example, bad)
    text = str(caught.value)
    assert len(caught.value.mistakes) == 4
    for part in (
        "MILLRACE_NAME is not set: who",
        "MILLRACE_SIZE_BYTES='0': must be at least 1",
        "'perhaps'",
        "json, human",
    ):
        assert part in text


def test_a_settings_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="MILLRACE_SETTINGS_FILE=/nowhere"):
        load(Example, {"MILLRACE_SETTINGS_FILE": "/nowhere"})


def test_an_empty_value_of_an_optional_setting_is_none() -> None:
    assert load(Example, {"MILLRACE_NAME": "x", "MILLRACE_FILE": ""}).file is None


def test_settings_describe_themselves() -> None:
    assert describe(Example)[:2] == [("MILLRACE_NAME", "required", "who"), ("MILLRACE_SIZE_BYTES", "10", "how much")]
