"""From method and request target to what is asked for. Targets are taken as they came: no percent-decoding, no `..`."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from bridge.http.errors import Refusal, broken
from schemas.topics import DEVICE_ID, NAME, is_device_id, is_name

TELEMETRY_PATH: Final = "/v1/devices/{id}/telemetry/{channel}"
Page = Literal["/openapi.json", "/docs"]
PAGES: Final[tuple[Page, ...]] = ("/openapi.json", "/docs")

_telemetry = re.compile(r"/v1/devices/([^/]*)/telemetry/([^/]*)", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A device wants to publish on a channel. Whether it may is not known yet."""

    device: str
    channel: str


def resolve(method: str, target: str) -> Telemetry | Page:
    """What a request asks for. Raises Refusal: 404, 405, and 400 for an id or a channel outside the grammar.

    A query is ignored. An id or channel is never percent-decoded: the grammar has only characters that need no such
    thing, and a decoded `%2F` would be another path to whoever stands between.
    """
    path = target.partition("?")[0]
    found = _telemetry(path)
    if found is not None:
        _only(method, ("POST",))
        return _checked(Telemetry(found[1], found[2]))
    for page in PAGES:
        if path == page:
            _only(method, ("GET", "HEAD"))
            return page
    raise Refusal(404, f"nothing here; devices POST to {TELEMETRY_PATH}, see /docs")


def _only(method: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed:
        raise Refusal(405, f"only {' and '.join(allowed)} here", {"Allow": ", ".join(allowed)})


def _checked(asked: Telemetry) -> Telemetry:
    if not is_device_id(asked.device):
        raise broken(f"device id {asked.device[:80]!r} must match {DEVICE_ID}")
    if not is_name(asked.channel) or asked.channel in (".", ".."):
        raise broken(f"channel {asked.channel[:80]!r} must match {NAME}")
    return asked
