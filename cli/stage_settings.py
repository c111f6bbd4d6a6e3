"""The verbs check, apply and show that every stage's settings have; each is published in band under one key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import yaml

from cli import inband
from cli.context import changes, data_option, settings
from control import decisions
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

    def apply(file: Path, wait_s: float, data: Path) -> None:
        found, kafka = inband.read(file, check), settings(KafkaSettings, data)
        epoch, offset = inband.publish(kafka, key, found.encode(), f"millrace {noun} show")
        click.echo(f"{what} {epoch}/{offset} published: {summary(found)}")
        inband.wait_in_force(kafka, offset + 1, wait_s)

    def show(as_json: bool, data: Path) -> None:
        kafka = settings(KafkaSettings, data)
        published = decisions.in_force(kafka, key, decode)
        found, version = default(), "that came with Millrace: none were published"
        if published is not None:
            found, version = published.value, f"{inband.epoch(kafka)}/{published.offset}"
            if published.broken is not None:
                click.echo(f"newer {what} are broken and not in force: {published.broken}", err=True)
        if as_json:
            click.echo(found.encode())
            return
        click.echo(f"# {what} {version}")
        click.echo(yaml.safe_dump(found.plain(), sort_keys=False, allow_unicode=True), nl=False)

    file = f"{what}.yaml"
    as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
    check_.__doc__ = f"""Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace {noun} check {file}
    """
    apply.__doc__ = f"""Check FILE, publish it, and wait until it is in force, in each partition from an offset on.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace {noun} apply {file}
    """
    show.__doc__ = f"""The settings published last, as they were checked, or those that came with Millrace.

    Example: millrace {noun} show > {file}
    """
    group.command("check")(inband.file_argument(check_))
    group.command("apply")(inband.file_argument(inband.wait_option(data_option(changes(apply)))))
    group.command("show")(as_json(data_option(show)))
