"""SenML in JSON: `application/senml+json` (RFC 8428, section 5)."""

import re
from typing import Any

from streams.access.decode.formats import plain_json, senml
from streams.access.decode.message import Message

_is_base64url = re.compile(r"[A-Za-z0-9_-]*={0,2}", re.ASCII).fullmatch


def decode(payload: bytes, received_ms: int) -> Message:
    return senml.resolve(plain_json.parse(payload), received_ms, _data)


def _data(value: Any) -> str | None:
    return value if type(value) is str and _is_base64url(value) else None
