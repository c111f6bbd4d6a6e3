"""`millrace windows`: check, publish and show how windows are made."""

from pathlib import Path

import click
import yaml

from cli import inband
from cli.context import data_option, settings
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from schemas.control import settings_key
from streams.aggregate.windowing import Windowing, check, decode

KEY = settings_key("aggregate")


@click.group()
def windows() -> None:
    """Windows: their length, lateness, sketches and groups. The language is described in streams/aggregate/README.md.

    Example: millrace windows check windows.yaml && millrace windows apply windows.yaml
    """


@windows.command("check")
@inband.file_argument
def check_(file: Path) -> None:
    """Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace windows check windows.yaml
    """
    click.echo(f"{file}: {_summary(inband.read(file, check))}")


@windows.command()
@inband.file_argument
@data_option
def apply(file: Path, data: Path) -> None:
    """Check FILE and publish it. It takes effect in each partition at an offset, within a second.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace windows apply windows.yaml
    """
    found = inband.read(file, check)
    kafka = settings(KafkaSettings, data)
    epoch, offset = inband.publish(kafka, KEY, found.encode(), "millrace windows show")
    click.echo(f"windows {epoch}/{offset} published: {_summary(found)}")


@windows.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@data_option
def show(as_json: bool, data: Path) -> None:
    """The settings published last, as they were checked, or those that came with Millrace.

    Example: millrace windows show > windows.yaml
    """
    kafka = settings(KafkaSettings, data)
    known = topics.read_control(kafka)
    found, what = Windowing(), "that came with Millrace: none were published"
    if KEY in known:
        offset, value = known[KEY]
        found, what = decode(value), f"{inband.epoch(kafka)}/{offset}"
    if as_json:
        click.echo(found.encode())
        return
    click.echo(f"# windows {what}")
    click.echo(yaml.safe_dump(found.plain(), sort_keys=False, allow_unicode=True), nl=False)


def _summary(found: Windowing) -> str:
    groups = f"groups by {', '.join(found.groups)}" if found.groups else "no groups"
    return f"of {found.window_s} s, {'with' if found.sketch else 'without'} sketches, {groups}"
