"""Ends certificates of devices on this machine's platform: they are revoked, and connections made with them end."""

import os
import signal
from collections.abc import Collection, Sequence
from pathlib import Path

from identity import revocation
from identity.authority import KEY
from local import status
from local.engines import mqtt
from local.engines.mosquitto import BRIDGE_USER, Mosquitto
from local.platform import AUTHORITY, BRIDGE_CLIENT
from local.programs import ProgramError


def end(data: Path, ids: Sequence[str], only: Collection[str] | None = None) -> tuple[int, str]:
    """Revoke every certificate that these devices have, or those with the serial numbers `only`, make the broker read
    the list, and end connections of these devices: (how many had one, what the operator has to do or "").

    Without the authority's folder there is nothing to do here.
    """
    folder = data / AUTHORITY
    if not (folder / KEY).exists():
        return 0, ""
    ended = revocation.revoke(folder, set(ids), only)
    return len(ended), _apply(data, ended) if ended else ""


def _apply(data: Path, ids: Sequence[str]) -> str:
    found = status.read(data)
    broker = next((one["pid"] for one in (found or {}).get("services", ()) if one["name"] == "mosquitto"), None)
    if broker is None:
        return (
            ""
            if found is not None
            else (
                f"no broker of this machine reads the list: give it {data / AUTHORITY / revocation.CRL} as its"
                " `crlfile`, send it SIGHUP, and end the connections of these devices"
            )
        )
    os.kill(broker, signal.SIGHUP)
    here = Mosquitto(data.resolve() / "mosquitto", folder := data / AUTHORITY, 0, None, BRIDGE_CLIENT)
    try:
        password = here.bridge_password_file.read_text()
        for device in ids:
            mqtt.disconnect(here.socket, device, BRIDGE_USER, password)
    except (OSError, ProgramError) as error:
        return f"connections of these devices may still be open ({folder}: {error}); restart mosquitto"
    return ""
