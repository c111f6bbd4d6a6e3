"""Settings: one frozen dataclass a service, read from the environment and a file, refused with all mistakes at once.

A field `kafka_bootstrap` is read from `MILLRACE_KAFKA_BOOTSTRAP`, else from the key `kafka_bootstrap` of the TOML file
named by `MILLRACE_SETTINGS_FILE`, else it has its default. Lists are comma-separated; in an item a
comma is `\\,`. A secret is given as a file: a field of type Path.
"""

import dataclasses
import math
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runtime.addresses import Listen
from runtime.errors import EXIT_SETTINGS, MillraceError

T = TypeVar("T")
PREFIX = "MILLRACE_"
_COMMA = re.compile(r"(?<!\\),")


def setting(
    default: Any = MISSING,
    *,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    readable: bool = False,
) -> Any:
    """A field with its meaning and its bounds (inclusive). `readable`: a file that must be there and can be read."""
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "readable": readable}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class KafkaSettings:
    """What every service that uses Kafka needs."""

    kafka_bootstrap: str = setting("127.0.0.1:9092", doc="host:port of one or more Kafka brokers, comma-separated")
    kafka_security: Path | None = setting(
        None, doc="file of extra librdkafka properties (key=value), TLS and SASL", readable=True
    )


@dataclass(frozen=True)
class ServiceSettings:
    """What every service needs."""

    instance: str = setting("0", doc="name of this process among those of its service; unique")
    http_bind: Listen = setting(
        Listen("127.0.0.1:0"), doc="host:port of /metrics and /health; port 0 chooses a free one, * is every address"
    )
    log_format: str = setting("json", doc="form of log lines", choices=("json", "human"))
    log_level: str = setting("info", doc="lowest level logged", choices=("debug", "info", "warning", "error"))


class SettingsError(MillraceError, ValueError):
    """Every bad value, one line each: the setting, its value, what is wrong with it and what it means."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def _parse(text: str, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        if text == "":
            return None
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if kind is bool:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise ValueError("expected true or false")
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        parts = (part.strip().replace("\\,", ",") for part in _COMMA.split(text))
        return tuple(_parse(part, item) for part in parts if part)
    if kind in (int, float):
        return _number(text, kind)
    return kind(text)


def _number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        found = kind(text.replace("_", ""))
    except ValueError:
        raise ValueError(f"expected a {'whole ' if kind is int else ''}number") from None
    if not math.isfinite(found):
        raise ValueError("expected a finite number")
    return found


def _check(value: Any, meta: Mapping[str, Any]) -> None:
    if meta.get("readable") and value is not None:
        _check_readable(value)
    low, high, choices = meta.get("low"), meta.get("high"), meta.get("choices")
    if low is not None and value < low:
        raise ValueError(f"must be at least {low}")
    if high is not None and value > high:
        raise ValueError(f"must be at most {high}")
    if choices is not None and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _from_file(environment: Mapping[str, str]) -> dict[str, Any]:
    name = environment.get(PREFIX + "SETTINGS_FILE")
    if not name:
        return {}
    try:
        return tomllib.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise SettingsError([f"MILLRACE_SETTINGS_FILE={name}: {error}"]) from None


def load(cls: type[T], environment: Mapping[str, str] | None = None, required: Collection[str] = ()) -> T:
    """Settings from the environment and the file. Those of `required` (names of the environment) have no default.
    Raises SettingsError with every mistake at once."""
    environment = os.environ if environment is None else environment
    given = _from_file(environment)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = PREFIX + f.name.upper()
        if name in environment:
            text, where = environment[name], name
        elif f.name in given:
            found = given[f.name]
            text = ",".join(str(item).replace(",", "\\,") for item in found) if isinstance(found, list) else str(found)
            where = f"{f.name} in {environment[PREFIX + 'SETTINGS_FILE']}"
        elif name in required or (f.default is MISSING and f.default_factory is MISSING):
            mistakes.append(f"{name} is not set: {f.metadata['doc']}")
            continue
        else:
            continue
        try:
            values[f.name] = _parse(text, hints[f.name])
            _check(values[f.name], f.metadata)
        except (ValueError, TypeError) as error:
            mistakes.append(f"{where}={text!r}: {error} ({f.metadata['doc']})")
    if mistakes:
        raise SettingsError(mistakes)
    return cls(**values)


def names_of(cls: type[Any]) -> list[str]:
    """Names of the fields."""
    return [f.name for f in dataclasses.fields(cls)]


def load_or_exit(cls: type[T]) -> T:
    """Settings, or every mistake on standard error and exit code 64."""
    try:
        return load(cls)
    except SettingsError as error:
        for line in error.mistakes:
            print(f"settings: {line}", file=sys.stderr)
        sys.exit(EXIT_SETTINGS)


def describe(cls: type[Any]) -> list[tuple[str, str, str]]:
    """(environment name, default, meaning) of each field: for READMEs and .env.example."""
    rows = []
    for f in dataclasses.fields(cls):
        default = "required" if f.default is MISSING and f.default_factory is MISSING else str(f.default)
        rows.append((PREFIX + f.name.upper(), default, str(f.metadata["doc"])))
    return rows
