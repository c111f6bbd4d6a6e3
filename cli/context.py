"""What commands share: the option --data, the settings of the platform that is meant, and its name for people."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click

from cli import reach
from cli.target import CLICKHOUSE, DATA_ENV, HERE, KAFKA, META, PLACES, NoPlatformError, Target, find, in_folder
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings, load, names_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_PLACES: Final = {"kafka_bootstrap": KAFKA, "clickhouse_url": CLICKHOUSE}
_path = click.Path(path_type=Path, file_okay=False)


def _chosen(context: click.Context, _: click.Parameter, value: Path | None) -> Path:
    if context.resilient_parsing:
        return value or HERE
    target = find(value, os.environ)
    context.meta[META] = target
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
"""For `up`, which makes the folder."""


def _existing(context: click.Context, _: click.Parameter, value: Path | None) -> Path:
    folder = value or Path(os.environ.get(DATA_ENV) or HERE)
    if not (folder / "run").is_dir() and not context.resilient_parsing:
        raise NoPlatformError(f"there is no platform in {folder.resolve()}: `millrace up --data {folder}` starts one")
    return folder


local_option = click.option(
    "--data", type=_path, callback=_existing, help="The platform's data folder (default: $MILLRACE_DATA or ./data)."
)
"""For commands about a platform on this machine: down, status, scale, restart."""


def target(data: Path) -> Target:
    """The platform that this command speaks to; out of a command, that of the folder."""
    context = click.get_current_context(silent=True)
    chosen = context.meta.get(META) if context else None
    return chosen if chosen is not None and chosen.folder == data else in_folder(data, os.environ)


@dataclass(frozen=True)
class Servers(KafkaSettings, ClickHouseSettings):
    """Of commands that ask both: their mistakes are reported together, before either is asked."""


def settings(cls: type[T], data: Path, reachable: bool = True, defaults: Mapping[str, str] = MappingProxyType({})) -> T:
    """Settings of a client of the platform. Addresses have no default. With `reachable`, Kafka and ClickHouse must
    accept connections where `cls` names them. `defaults`: MILLRACE_… for where none is set. Raises SettingsError,
    RetryableError."""
    found = target(data)
    wanted = {_PLACES[name] for name in names_of(cls) if name in _PLACES}
    loaded = load(cls, {**defaults, **found.values}, required=wanted)
    if isinstance(loaded, KafkaSettings):
        brokers = reach.kafka_servers(loaded.kafka_bootstrap)
        if reachable:
            reach.check(found, "Kafka", KAFKA, brokers)
    if isinstance(loaded, ClickHouseSettings):
        server = reach.clickhouse_server(loaded)
        if reachable:
            reach.check(found, "ClickHouse", CLICKHOUSE, [server])
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


def forget_places() -> None:
    """Take what this process's environment says of addresses away: services of `millrace up` get their own."""
    for name in PLACES:
        os.environ.pop(name, None)
