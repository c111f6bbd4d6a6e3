"""What commands share: the option --data, the settings of the platform that is meant, and its name for people."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli import reach
from cli.target import CLICKHOUSE, DATA_ENV, HERE, KAFKA, PLACES, Target, find, in_folder
from runtime.settings import load, names_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_META: Final = "millrace.target"
_PLACES: Final = {"kafka_bootstrap": KAFKA, "clickhouse_url": CLICKHOUSE}
_path = click.Path(path_type=Path, file_okay=False)


def _chosen(context: click.Context, _: click.Parameter, value: Path | None) -> Path:
    if context.resilient_parsing:
        return value or HERE
    target = find(value, os.environ)
    context.meta[_META] = target
    return target.folder


data_option = click.option(
    "--data",
    type=_path,
    callback=_chosen,
    help="The platform's data folder; it beats the environment. Default: $MILLRACE_DATA, ./data, or MILLRACE_… alone.",
)
"""For commands that speak to a platform: the parameter `data` is the folder of the one that is meant."""

folder_option = click.option(
    "--data",
    type=_path,
    default=lambda: Path(os.environ.get(DATA_ENV) or HERE),
    help="The platform's data folder (default: $MILLRACE_DATA or ./data).",
)
"""For commands about the folder itself: up, down, status, scale, restart."""


def target(data: Path) -> Target:
    """The platform that this command speaks to; out of a command, that of the folder."""
    context = click.get_current_context(silent=True)
    chosen = context.meta.get(_META) if context else None
    return chosen if chosen is not None and chosen.folder == data else in_folder(data, os.environ)


def settings(cls: type[T], data: Path, reachable: bool = True) -> T:
    """Settings of a client of the platform. Addresses have no default. With `reachable`, Kafka and ClickHouse must
    accept connections where `cls` names them. Raises SettingsError, RetryableError."""
    found = target(data)
    wanted = {_PLACES[name] for name in names_of(cls) if name in _PLACES}
    loaded = load(cls, found.values, required=wanted)
    if reachable:
        if KAFKA in wanted:
            text = loaded.kafka_bootstrap  # type: ignore[attr-defined]
            reach.check(found, "Kafka", KAFKA, reach.kafka_servers(text))
        if CLICKHOUSE in wanted:
            url = loaded.clickhouse_url  # type: ignore[attr-defined]
            reach.check(found, "ClickHouse", CLICKHOUSE, [reach.clickhouse_server(url)])
    return loaded


def changes(command: F) -> F:
    """For commands that change a platform: says on standard error which one. Stands below `data_option`."""

    @functools.wraps(command)
    def announced(*args: Any, data: Path, **more: Any) -> Any:
        announce(data)
        return command(*args, data=data, **more)

    return announced  # type: ignore[return-value]


def announce(data: Path) -> None:
    click.echo(f"millrace: on {target(data)}", err=True)


def environment(data: Path) -> dict[str, str]:
    """Every MILLRACE_… in effect."""
    return dict(target(data).values)


def forget_places() -> None:
    """Take what this process's environment says of addresses away: services of `millrace up` are told their own."""
    for name in PLACES:
        os.environ.pop(name, None)
