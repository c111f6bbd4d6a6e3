"""The verbs check, apply and show that every stage's settings have; each is published in band under one key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import yaml

from cli import inband
from cli.context import changes, data_option, settings
from runtime.kafka import topics
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

    def apply(file: Path, data: Path) -> None:
        found = inband.read(file, check)
        epoch, offset = inband.publish(settings(KafkaSettings, data), key, found.encode(), f"millrace {noun} show")
        click.echo(f"{what} {epoch}/{offset} published: {summary(found)}")

    def show(as_json: bool, data: Path) -> None:
        kafka = settings(KafkaSettings, data)
        known = topics.read_control(kafka)
        found, version = default(), "that came with Millrace: none were published"
        if key in known:
            offset, value = known[key]
            found, version = decode(value), f"{inband.epoch(kafka)}/{offset}"
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
    apply.__doc__ = f"""Check FILE and publish it. It takes effect in each partition at an offset, within a second.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace {noun} apply {file}
    """
    show.__doc__ = f"""The settings published last, as they were checked, or those that came with Millrace.

    Example: millrace {noun} show > {file}
    """
    group.command("check")(inband.file_argument(check_))
    group.command("apply")(inband.file_argument(data_option(changes(apply))))
    group.command("show")(as_json(data_option(show)))
