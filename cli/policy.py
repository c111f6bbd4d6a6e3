"""`millrace policy`: check, publish and show what devices may say."""

from pathlib import Path
from typing import Final

import click
import yaml

from cli.context import data_option, settings
from runtime.errors import RetryableError
from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY
from schemas.topics import CONTROL
from streams.access.policy import Policy, PolicyError, check, decode

_TIMEOUT_S: Final = 15.0
_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def policy() -> None:
    """Policies: what each role may publish. The language is described in streams/access/README.md.

    Example: millrace policy check policy.yaml && millrace policy apply policy.yaml
    """


@policy.command("check")
@_file
def check_(file: Path) -> None:
    """Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace policy check policy.yaml
    """
    found = read(file)
    click.echo(f"{file}: {len(found.roles)} roles, unknown devices {_strangers(found)}")


@policy.command()
@_file
@data_option
def apply(file: Path, data: Path) -> None:
    """Check FILE and publish it. It takes effect in each partition at an offset, within a second.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace policy apply policy.yaml
    """
    found = read(file)
    epoch, offset = publish(settings(KafkaSettings, data), found)
    click.echo(f"policy {epoch}/{offset} published: {len(found.roles)} roles, unknown devices {_strangers(found)}")


@policy.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@data_option
def show(as_json: bool, data: Path) -> None:
    """The policy published last, as it was checked. Example: millrace policy show"""
    kafka = settings(KafkaSettings, data)
    known = topics.read_control(kafka)
    if POLICY_KEY not in known:
        click.echo("no policy is published: every message is denied", err=True)
        raise SystemExit(1)
    offset, value = known[POLICY_KEY]
    if as_json:
        click.echo(value)
        return
    click.echo(f"# policy {_epoch(kafka)}/{offset}")
    click.echo(yaml.safe_dump(decode(value).plain(), sort_keys=False, allow_unicode=True), nl=False)


def read(file: Path) -> Policy:
    """The checked policy of a file; every mistake on standard error and exit code 1 otherwise."""
    try:
        return check(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        mistakes = [f"{file}:1: byte {error.start} is no UTF-8"]
    except PolicyError as error:
        mistakes = error.mistakes
    for mistake in mistakes:
        click.echo(mistake, err=True)
    click.echo(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}; nothing was changed", err=True)
    raise SystemExit(1)


def publish(kafka: KafkaSettings, found: Policy) -> tuple[int, int]:
    """Write the policy to platform.control and wait for the acknowledgement; its version (epoch, offset)."""
    epoch = _epoch(kafka)
    offsets: list[int] = []

    def delivered(error: object, message: object) -> None:
        if error is None:
            offsets.append(message.offset())  # type: ignore[attr-defined]

    producer = clients.producer(kafka)
    producer.produce(CONTROL, key=POLICY_KEY, value=found.encode(), on_delivery=delivered)
    if producer.flush(_TIMEOUT_S) or not offsets:
        raise RetryableError("Kafka did not acknowledge the policy; whether it is in force, `policy show` tells")
    return epoch, offsets[0]


def _epoch(kafka: KafkaSettings) -> int:
    return topics.facts(kafka, CONTROL)[CONTROL].epoch


def _strangers(found: Policy) -> str:
    return "are denied" if found.unknown is None else f"have role {found.unknown}"
