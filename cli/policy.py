"""`millrace policy`: check, publish and show what devices may say."""

from pathlib import Path

import click
import yaml

from cli import inband
from cli.context import changes, data_option, settings
from control import decisions
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY
from streams.access.policy import Policy, check, decode


@click.group()
def policy() -> None:
    """Policies: what each role may publish. The language is described in streams/access/README.md.

    Example: millrace policy check policy.yaml && millrace policy apply policy.yaml
    """


@policy.command("check")
@inband.file_argument
def check_(file: Path) -> None:
    """Check FILE and name every mistake with its line; exit code 1 when there is one.

    Example: millrace policy check policy.yaml
    """
    found = inband.read(file, check)
    click.echo(f"{file}: {len(found.roles)} roles, unknown devices {_strangers(found)}")


@policy.command()
@inband.file_argument
@inband.wait_option
@data_option
@changes
def apply(file: Path, wait_s: float, data: Path) -> None:
    """Check FILE, publish it, and wait until it is in force. It takes effect in each partition at an offset.

    A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace policy apply policy.yaml
    """
    found = inband.read(file, check)
    kafka = settings(KafkaSettings, data)
    epoch, offset = publish(kafka, found)
    click.echo(f"policy {epoch}/{offset} published: {len(found.roles)} roles, unknown devices {_strangers(found)}")
    inband.wait_in_force(kafka, offset + 1, wait_s)


@policy.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@data_option
def show(as_json: bool, data: Path) -> None:
    """The policy published last, as it was checked. Example: millrace policy show"""
    kafka = settings(KafkaSettings, data)
    found = decisions.in_force(kafka, POLICY_KEY, decode)
    if found is None:
        click.echo("no policy is in force: every message is denied", err=True)
        raise SystemExit(1)
    if found.broken is not None:
        click.echo(f"a newer policy is broken and not in force: {found.broken.partition(chr(10))[0]}", err=True)
    if as_json:
        click.echo(found.text)
        return
    click.echo(f"# policy {inband.epoch(kafka)}/{found.offset}")
    click.echo(yaml.safe_dump(found.value.plain(), sort_keys=False, allow_unicode=True), nl=False)


def publish(kafka: KafkaSettings, found: Policy) -> tuple[int, int]:
    """Put a policy in force; its version (epoch, offset)."""
    return inband.publish(kafka, POLICY_KEY, found.encode(), "millrace policy show")


def _strangers(found: Policy) -> str:
    return "are denied" if found.unknown is None else f"have role {found.unknown}"
