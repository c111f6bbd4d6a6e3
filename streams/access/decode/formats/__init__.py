"""The formats of payloads, by content type. Each is a file with one function, `decode(payload, received_ms)`.

These functions are the law: strict, a message at a time, and the only ones that give reasons. The batch path in
fast.py answers for plain JSON, and only ever what `decode` would answer.
"""

from collections.abc import Callable
from typing import Final

from schemas import content_types, raw
from schemas.content_types import media_type
from streams.access.decode.formats import arrow_stream, plain_json, senml_cbor, senml_json
from streams.access.decode.limits import Invalid, shown
from streams.access.decode.message import Message

Decode = Callable[[bytes, int], Message]
"""(payload, received_ms) -> Message. Raises Invalid, and nothing else for any bytes."""

JSON: Final = plain_json.decode


def _cut(payload: bytes, received_ms: int) -> Message:
    raise Invalid("too_large", "more than a Kafka record holds; the bridge kept the beginning")


FORMATS: Final[dict[str, Decode]] = {
    "": JSON,
    content_types.JSON: JSON,
    content_types.SENML_JSON: senml_json.decode,
    content_types.SENML_CBOR: senml_cbor.decode,
    content_types.ARROW: arrow_stream.decode,
    raw.CUT: _cut,
}
"""Media type -> how it is decoded. Absent is the empty string."""


def format_of(content_type: str | None) -> Decode:
    """The decoder of a content type; one that refuses the message for a type that is not known."""
    return FORMATS.get(media_type(content_type)) or _refuse(content_type)


def _refuse(content_type: str | None) -> Decode:
    def decode(payload: bytes, received_ms: int) -> Message:
        known = ", ".join(k for k in FORMATS if k and k != raw.CUT)
        raise Invalid("content_type", f"{shown(content_type)} is not known; known are {known}")

    return decode
