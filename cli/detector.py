"""`millrace detector`: check, publish and show how readings are watched."""

from pathlib import Path

import click
import yaml

from cli import inband
from cli.context import data_option, settings
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from schemas.control import settings_key
from streams.anomaly.detectors import Detectors, check, decode, default

KEY = settings_key("anomaly")


@click.group()
def detector() -> None:
    """Detectors: how readings are watched. The language is described in streams/anomaly/README.md.

    Example: millrace detector check detectors.yaml && millrace detector apply detectors.yaml
    """


@detector.command("check")
@inband.file_argument
def check_(file: Path) -> None:
    """Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace detector check detectors.yaml
    """
    click.echo(f"{file}: {_summary(inband.read(file, check))}")


@detector.command()
@inband.file_argument
@data_option
def apply(file: Path, data: Path) -> None:
    """Check FILE and publish it. It takes effect in each partition at an offset, within a second.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace detector apply detectors.yaml
    """
    found = inband.read(file, check)
    kafka = settings(KafkaSettings, data)
    epoch, offset = inband.publish(kafka, KEY, found.encode(), "millrace detector show")
    click.echo(f"detectors {epoch}/{offset} published: {_summary(found)}")


@detector.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@data_option
def show(as_json: bool, data: Path) -> None:
    """The settings published last, as they were checked, or those that came with Millrace.

    Example: millrace detector show > detectors.yaml
    """
    kafka = settings(KafkaSettings, data)
    known = topics.read_control(kafka)
    found, what = default(), "that came with Millrace: none were published"
    if KEY in known:
        offset, value = known[KEY]
        found, what = decode(value), f"{inband.epoch(kafka)}/{offset}"
    if as_json:
        click.echo(found.encode())
        return
    click.echo(f"# detectors {what}")
    click.echo(yaml.safe_dump(found.plain(), sort_keys=False, allow_unicode=True), nl=False)


def _summary(found: Detectors) -> str:
    watching = sum(len(rule.detectors) for rule in found.rules)
    return f"{len(found.rules)} rules with {watching} detectors, {len(found.shifts)} shifts"
