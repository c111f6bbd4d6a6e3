"""`millrace device`: enrol devices, look at them, end them."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import orjson

from cli import inband
from cli.context import changes, data_option, settings
from identity import renewal, revocation
from identity.authority import Authority
from identity.registry import DeviceRegistry, RegistryError, device_file
from identity.renewal import Issued
from local import certificates
from runtime.settings import KafkaSettings
from schemas.control import REMOVED, Device

AUTHORITY: Final = "identity"
"""Folder below DATA that holds the platform's certificate authority."""

_ids = click.argument("ids", nargs=-1, required=True, metavar="ID…")
_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


@click.group()
def device() -> None:
    """Devices: which may send messages, and in which role.

    Example: millrace device add sensor-1 --role temperature-sensor
    """


@device.command("add")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--from", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A CSV file.")
@click.option("--role", help="What the devices are for; policies speak of roles.")
@click.option("--parent", metavar="ID", help="The gateway that publishes for them.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--cert", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@_json
@inband.wait_option
@data_option
@changes
def add(
    ids: tuple[str, ...],
    file: Path | None,
    role: str | None,
    parent: str | None,
    labels: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
    wait_s: float,
    data: Path,
) -> None:
    """Enrol devices and print a token for HTTP for each: `ID TOKEN`, one a line. Tokens are not kept anywhere.

    --from FILE.csv reads them from a file with a header line and the columns id, role, parent and label.KEY; where a
    field is empty or a column is missing, the options apply. All devices are enrolled or none.

    With --cert DIR, each gets a certificate for MQTT over TLS as well: DIR/ID.crt, DIR/ID.key, and DIR/ca.crt to check
    the platform by. Example: millrace device add sensor-1 sensor-2 --role temperature-sensor --label site=north
    """
    given = Device("", role or "", parent=parent, labels=_labels(labels))
    wanted = [replace(given, id=name) for name in ids] + ([] if file is None else device_file.read(file, given))
    if not wanted:
        raise click.UsageError("give at least one ID, or --from FILE.csv")
    if any(not device.role for device in wanted):
        raise click.UsageError("--role is missing")
    names = [device.id for device in wanted]
    if folder is not None:
        _check_folder(folder, names)
    registry = _registry(data)
    tokens = registry.register(wanted)
    _end_certificates(data, names)  # of an id that was enrolled before
    if folder is not None:
        authority = Authority.open(data / AUTHORITY)
        _write_certificates(authority, folder, {name: Issued(*authority.issue_client(name)) for name in names})
    _print_tokens(tokens, as_json)
    _in_force(registry, data, wait_s)


@device.command("list")
@click.option("--all", "removed_too", is_flag=True, help="Removed devices as well.")
@click.option("--role", help="Only devices of this role.")
@_json
@data_option
def list_(removed_too: bool, role: str | None, as_json: bool, data: Path) -> None:
    """Enrolled devices. Example: millrace device list --role meter --json"""
    found = sorted(_registry(data).devices(role).values(), key=lambda d: d.id)
    shown = [d for d in found if removed_too or d.state != REMOVED]
    click.echo(orjson.dumps([_view(d) for d in shown]).decode() if as_json else _table(shown))


@device.command()
@click.argument("id")
@_json
@data_option
def show(id: str, as_json: bool, data: Path) -> None:
    """One device, removed or not. Example: millrace device show sensor-1"""
    found = _registry(data).device(id)
    if found is None:
        raise RegistryError([f"{id}: no such device"])
    view = _view(found)
    if as_json:
        click.echo(orjson.dumps(view).decode())
    else:
        click.echo("\n".join(f"{key:8} {_text(value)}" for key, value in view.items()))


@device.command()
@_ids
@inband.wait_option
@data_option
@changes
def remove(ids: tuple[str, ...], wait_s: float, data: Path) -> None:
    """Remove devices: their tokens and certificates are no longer accepted. Example: millrace device remove sensor-1"""
    registry = _registry(data)
    registry.remove(ids)
    click.echo(f"removed {len(ids)}")
    _end_certificates(data, ids)
    _in_force(registry, data, wait_s)


@device.command()
@_ids
@click.option("--role", required=True)
@inband.wait_option
@data_option
@changes
def role(ids: tuple[str, ...], role: str, wait_s: float, data: Path) -> None:
    """Give devices another role; no new firmware, no new token. Example: millrace device role sensor-1 --role meter"""
    registry = _registry(data)
    registry.change_role(ids, role)
    click.echo(f"changed {len(ids)}")
    _in_force(registry, data, wait_s)


@device.command()
@_ids
@_json
@inband.wait_option
@data_option
@changes
def token(ids: tuple[str, ...], as_json: bool, wait_s: float, data: Path) -> None:
    """Create new tokens; the old ones are no longer accepted. Example: millrace device token sensor-1"""
    registry = _registry(data)
    _print_tokens(registry.renew(ids), as_json)
    _in_force(registry, data, wait_s)


@device.command()
@_ids
@click.option(
    "--cert",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="Where the new certificates and keys are written.",
)
@click.option("--revoke", is_flag=True, help="End the earlier certificates now, and connections made with them.")
@data_option
@changes
def renew(ids: tuple[str, ...], folder: Path, revoke: bool, data: Path) -> None:
    """Issue new certificates for enrolled devices: DIR/ID.crt, DIR/ID.key, and DIR/ca.crt. Role and token stay.

    Earlier certificates stay valid until they expire or the device is removed, so that devices change over without a
    gap; with --revoke they are refused from now on. Nothing is issued where a device is not enrolled, or changed
    meanwhile. Example: millrace device renew sensor-1 --cert certs-2027
    """
    registry = _registry(data)
    _check_folder(folder, ids)
    authority = Authority.open(data / AUTHORITY)
    earlier = revocation.serials(data / AUTHORITY, set(ids))
    _write_certificates(authority, folder, renewal.renew(registry, authority, ids))
    click.echo(f"renewed {len(ids)}: {folder}")
    if revoke:
        _end_certificates(data, ids, earlier)


def _registry(data: Path) -> DeviceRegistry:
    return DeviceRegistry(settings(KafkaSettings, data))


def _in_force(registry: DeviceRegistry, data: Path, wait_s: float) -> None:
    inband.wait_in_force(settings(KafkaSettings, data), registry.written, wait_s)


def _end_certificates(data: Path, ids: Sequence[str], only: Collection[str] | None = None) -> None:
    """Certificates that were issued to these ids before, or those with the serial numbers `only`, do not count any
    more."""
    ended, problem = certificates.end(data, ids, only)
    if ended and problem:
        click.echo(f"millrace: certificates of {ended} devices are revoked, but {problem}", err=True)


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    wrong = [text for text in given if "=" not in text]
    if wrong:
        raise click.BadParameter(f"{', '.join(map(repr, wrong))}: expected KEY=VALUE", param_hint="--label")
    return dict(text.split("=", 1) for text in given)


def _check_folder(folder: Path, ids: Sequence[str]) -> None:
    """Before anything is enrolled: no key is written over, and the folder can be written."""
    taken = [f"{folder / name}.key: is there already" for name in ids if (folder / f"{name}.key").exists()]
    if taken:
        raise RegistryError(taken)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise RegistryError([f"{folder}: cannot be written"])


def _write_certificates(authority: Authority, folder: Path, issued: Mapping[str, Issued]) -> None:
    (folder / "ca.crt").write_bytes(authority.certificate_pem)
    for name, (certificate, key) in issued.items():
        (folder / f"{name}.crt").write_bytes(certificate)
        descriptor = os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(key)


def _print_tokens(tokens: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps([{"id": name, "token": token} for name, token in tokens.items()]).decode())
    else:
        click.echo("\n".join(f"{name} {token}" for name, token in tokens.items()))


def _view(found: Device) -> dict[str, Any]:
    """What may be shown: whether there is a token, never its hash."""
    return {
        "id": found.id,
        "role": found.role,
        "state": found.state,
        "parent": found.parent,
        "labels": found.labels,
        "http": found.token is not None,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={text}" for key, text in sorted(value.items())) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _table(devices: list[Device]) -> str:
    rows = [("ID", "ROLE", "STATE", "PARENT", "LABELS", "HTTP")]
    rows += [tuple(_text(value) for value in _view(d).values()) for d in devices]  # type: ignore[misc]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
