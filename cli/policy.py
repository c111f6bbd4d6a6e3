"""`millrace policy`: check, publish and show what devices may say."""

from itertools import zip_longest
from pathlib import Path
from typing import Final

import click

from cli import inband, versions
from cli.ask import confirm
from cli.context import Servers, changes, data_option, settings
from cli.difference import PolicyChange, of_policies, text_of
from identity.registry import DeviceRegistry
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY
from streams.access.policy import Policy, check, decode

_SEE: Final = "millrace policy show"


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
    click.echo(f"{file}: {len(found.roles)} roles, unknown devices {_role_of_unknown(found)}")


@policy.command()
@inband.file_argument
@inband.dry_run_option
@inband.yes_option
@inband.wait_option
@data_option
@changes
def apply(file: Path, dry_run: bool, yes: bool, wait_s: float, data: Path) -> None:
    """Check FILE, show what it changes, publish it, and wait until it is in force, in each partition from an offset on.

    A policy replaces the one before as a whole. When that takes a role away, it says how many devices would be denied
    and asks. A file with a mistake changes nothing. Prints the version: epoch and offset in platform.control.
    Example: millrace policy apply policy.yaml --dry-run
    """
    _replace(settings(KafkaSettings, data), inband.read(file, check), str(file), dry_run, yes, wait_s)


@policy.command()
@data_option
def history(data: Path) -> None:
    """Every policy that was in force, newest first, and what each changed. Example: millrace policy history"""
    with ClickHouse(settings(ClickHouseSettings, data)) as db:
        found = versions.of_policy(db)
    for version, before in zip_longest(found, found[1:]):
        change = of_policies(None if before is None else decode(before.value), decode(version.value), ())
        click.echo(f"{version!s:12} since {version.since:%Y-%m-%d %H:%M:%S}  {change.brief()}")


@policy.command()
@versions.argument
@inband.dry_run_option
@inband.yes_option
@inband.wait_option
@data_option
@changes
def rollback(version: tuple[int, int], dry_run: bool, yes: bool, wait_s: float, data: Path) -> None:
    """Publish an earlier policy again, as a new version. VERSION is one that `millrace policy history` lists.

    Example: millrace policy rollback 0/13
    """
    servers = settings(Servers, data)
    with ClickHouse(servers) as db:
        found = versions.named(versions.of_policy(db), version, "policy")
    _replace(servers, decode(found.value), f"policy {found}", dry_run, yes, wait_s)


@policy.command()
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@versions.option
@data_option
def show(as_json: bool, version: tuple[int, int] | None, data: Path) -> None:
    """The policy published last, or an earlier one, as it was checked. Example: millrace policy show"""
    if version is not None:
        with ClickHouse(settings(ClickHouseSettings, data)) as db:
            text, name = versions.named(versions.of_policy(db), version, "policy").value, "{}/{}".format(*version)
    else:
        current = inband.published(settings(KafkaSettings, data), POLICY_KEY, decode)
        if current.value is None:
            click.echo("no policy is in force: every message is denied", err=True)
            raise SystemExit(1)
        if current.broken is not None:
            click.echo(f"a newer policy is broken and not in force: {current.broken.partition(chr(10))[0]}", err=True)
        text, name = current.text, current.name
    if as_json:
        click.echo(text)
        return
    click.echo(f"# policy {name}")
    click.echo(text_of(decode(text).plain()), nl=False)


def _replace(kafka: KafkaSettings, new: Policy, source: str, dry_run: bool, yes: bool, wait_s: float) -> None:
    """Show what changes, ask when something is taken away, and publish against the version that was shown."""
    current, change = _difference(kafka, new, source)
    if change is None or not inband.goes_on(dry_run):
        return
    if change.takes_away:
        confirm("Devices that may publish now would be denied. Publish it?", yes)
    epoch, offset = inband.replace(
        kafka, POLICY_KEY, new.encode(), _SEE, current.newest, lambda: _difference(kafka, new, source)[0]
    )
    click.echo(f"policy {epoch}/{offset} published: {len(new.roles)} roles, unknown devices {_role_of_unknown(new)}")
    inband.wait_in_force(kafka, offset + 1, wait_s)


def _difference(kafka: KafkaSettings, new: Policy, source: str) -> tuple[inband.Published[Policy], PolicyChange | None]:
    """Show it; no change when there is none."""
    current = inband.published(kafka, POLICY_KEY, decode)
    old = current.value
    if not inband.show_difference(old, new, current, source):
        return current, None
    takes = old is not None and bool(old.roles.keys() - new.roles.keys())
    change = of_policies(old, new, DeviceRegistry(kafka).devices().values() if takes else ())
    for line in change.summary():
        click.echo(line)
    return current, change


def publish(kafka: KafkaSettings, found: Policy) -> tuple[int, int]:
    """Put a policy in force, whatever was before; its version (epoch, offset)."""
    return inband.publish(kafka, POLICY_KEY, found.encode(), _SEE)


def _role_of_unknown(found: Policy) -> str:
    return "are denied" if found.unknown is None else f"have role {found.unknown}"
