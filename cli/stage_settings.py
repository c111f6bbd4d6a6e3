"""Verbs of every stage's settings: check, apply, show, history, rollback. Each is published in band under one key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from cli import inband, versions
from cli.context import Servers, changes, data_option, settings
from cli.difference import text_of
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings
from schemas.control import settings_key


class Checked(Protocol):
    """Settings of a stage, as its `check` and `decode` make them."""

    def encode(self) -> bytes:
        """As they are published."""

    def plain(self) -> Any:
        """As they are written in YAML."""


T = TypeVar("T", bound=Checked)


def add(
    group: click.Group,
    what: str,
    stage: str,
    check: Callable[[str, str], T],
    decode: Callable[[bytes], T],
    default: Callable[[], T],
    summary: Callable[[T], str],
) -> None:
    """Give `group` the verbs for the settings of `stage`, which people call `what`.

    `check(text, source)` raises with every mistake; `default()` are those that come with Millrace; `summary` is a few
    words for people.
    """
    key, noun = settings_key(stage), group.name or stage

    def check_(file: Path) -> None:
        click.echo(f"{file}: {summary(inband.read(file, check))}")

    def difference(kafka: KafkaSettings, new: T, source: str) -> tuple[inband.Published[T], bool]:
        current = inband.published(kafka, key, decode)
        old = default() if current.value is None else current.value
        return current, inband.show_difference(old, new, current, source)

    def replace(kafka: KafkaSettings, new: T, source: str, dry_run: bool, wait_s: float) -> None:
        current, changed = difference(kafka, new, source)
        if not changed or not inband.goes_on(dry_run):
            return
        see = f"millrace {noun} show"
        epoch, offset = inband.replace(
            kafka, key, new.encode(), see, current.newest, lambda: difference(kafka, new, source)[0]
        )
        click.echo(f"{what} {epoch}/{offset} published: {summary(new)}")
        inband.wait_in_force(kafka, offset + 1, wait_s)

    def apply(file: Path, dry_run: bool, wait_s: float, data: Path) -> None:
        replace(settings(KafkaSettings, data), inband.read(file, check), str(file), dry_run, wait_s)

    def history(data: Path) -> None:
        with ClickHouse(settings(ClickHouseSettings, data)) as db:
            for version in versions.of_settings(db, stage):
                click.echo(f"{version!s:12} since {version.since:%Y-%m-%d %H:%M:%S}  {summary(decode(version.value))}")

    def rollback(version: tuple[int, int], dry_run: bool, wait_s: float, data: Path) -> None:
        servers = settings(Servers, data)
        with ClickHouse(servers) as db:
            found = versions.named(versions.of_settings(db, stage), version, noun)
        replace(servers, decode(found.value), f"{what} {found}", dry_run, wait_s)

    def show(as_json: bool, version: tuple[int, int] | None, data: Path) -> None:
        if version is not None:
            with ClickHouse(settings(ClickHouseSettings, data)) as db:
                found = decode(versions.named(versions.of_settings(db, stage), version, noun).value)
            name = "{}/{}".format(*version)
        else:
            current = inband.published(settings(KafkaSettings, data), key, decode)
            found, name = current.value or default(), current.name
            if current.value is None:
                name = "that came with Millrace: none were published"
            if current.broken is not None:
                click.echo(f"newer {what} are broken and not in force: {current.broken}", err=True)
        if as_json:
            click.echo(found.encode())
            return
        click.echo(f"# {what} {name}")
        click.echo(text_of(found.plain()), nl=False)

    file = f"{what}.yaml"
    as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
    check_.__doc__ = f"""Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace {noun} check {file}
    """
    apply.__doc__ = f"""Check FILE, show what it changes, publish it, and wait until it is in force.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace {noun} apply {file}
    """
    history.__doc__ = f"""Every version that was in force, newest first. Example: millrace {noun} history"""
    rollback.__doc__ = f"""Publish an earlier version again, as a new one. VERSION is one that `history` lists.

    Example: millrace {noun} rollback 0/13
    """
    show.__doc__ = f"""The settings published last, as they were checked, or an earlier version, or those that came with
    Millrace.

    Example: millrace {noun} show > {file}
    """
    group.command("check")(inband.file_argument(check_))
    group.command("apply")(inband.file_argument(inband.dry_run_option(inband.wait_option(data_option(changes(apply))))))
    group.command("show")(as_json(versions.option(data_option(show))))
    group.command("history")(data_option(history))
    group.command("rollback")(
        versions.argument(inband.dry_run_option(inband.wait_option(data_option(changes(rollback)))))
    )
