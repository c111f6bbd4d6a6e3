"""From a body to its messages: payloads as they will stand in telemetry.raw, checked for syntax and nothing else.

What a message means, and whether the device may say it, is access's business. A body that is not even syntax is
refused whole: of an NDJSON body with one bad line no line is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from bridge.http.core import cbor
from bridge.http.errors import broken, too_large, unsupported
from schemas.content_types import JSON, NDJSON, SENML_CBOR, SENML_JSON, media_type


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one request may bring."""

    body_bytes: int
    decoded_bytes: int
    message_bytes: int
    messages: int


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of body. `row_type` is the content type of each of its messages."""

    media_type: str
    row_type: bytes
    split: Callable[[bytes, Bounds], list[bytes]]


def parse_type(content_type: str) -> Format:
    """The format named by a Content-Type. Raises Refusal 415."""
    found = _FORMATS.get(media_type(content_type))
    if found is None:
        what = f"Content-Type {content_type[:80]!r} is not known" if content_type else "Content-Type is missing"
        raise unsupported(f"{what}; send one of {', '.join(f.media_type for f in FORMATS)}")
    return found


def _json(body: bytes, bounds: Bounds) -> list[bytes]:
    _fits(body, bounds)
    _check_json(body)
    return [body]


def _cbor(body: bytes, bounds: Bounds) -> list[bytes]:
    _fits(body, bounds)
    if not body:
        raise broken("the body is empty", byte=0)
    cbor.check(body)
    return [body]


def _fits(body: bytes, bounds: Bounds) -> None:
    if len(body) > bounds.message_bytes:
        raise too_large(f"the message has {len(body)} bytes; at most {bounds.message_bytes}")


def _ndjson(body: bytes, bounds: Bounds) -> list[bytes]:
    """Each line that is not blank is a message; a carriage return before the line feed belongs to the line's end."""
    if body.count(b"\n") > 2 * bounds.messages:
        raise too_large(f"more than {bounds.messages} messages in one request")
    lines = body.split(b"\n")
    found = lines[:-1] if not lines[-1] else lines
    if b"\r" in body or not _all_well(found, bounds):
        found = [line for raw in lines if (line := raw.rstrip(b"\r")) and not line.isspace()]
        _find_fault(lines, bounds)
    if len(found) > bounds.messages:
        raise too_large(f"{len(found)} messages in one request; at most {bounds.messages}")
    if not found:
        raise broken("the body holds no message", byte=0)
    return found


def _all_well(lines: list[bytes], bounds: Bounds) -> bool:
    """The common case at once: no blank line, nothing broken, nothing too long."""
    try:
        for line in lines:
            orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return not lines or max(map(len, lines)) <= bounds.message_bytes


def _find_fault(lines: list[bytes], bounds: Bounds) -> None:
    """Raise the refusal of the first line at fault, with its place."""
    at = 0
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip(b"\r")
        if len(line) > bounds.message_bytes:
            text = f"line {number} has {len(line)} bytes; a message may have at most {bounds.message_bytes}"
            raise too_large(text, line=number, byte=at)
        if line and not line.isspace():
            _check_json(line, number, at)
        at += len(raw) + 1


def _check_json(text: bytes, line: int | None = None, at: int = 0) -> None:
    """Raises Refusal 400 with line, column and byte. `line` is given for NDJSON, where `text` is one line."""
    try:
        orjson.loads(text)
        return
    except orjson.JSONDecodeError as error:
        fault = error
    try:
        characters = text.decode()
    except UnicodeDecodeError as wrong:
        before = text[: wrong.start].decode()
        number = line or before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        message = f"not UTF-8: byte 0x{text[wrong.start]:02x} at line {number}, column {column}"
        raise broken(message, line=number, column=column, byte=at + wrong.start) from None
    number = line or fault.lineno
    offset = at + len(characters[: fault.pos].encode("utf-8", "surrogatepass"))
    raise broken(
        f"not JSON: {fault.msg} at line {number}, column {fault.colno}", line=number, column=fault.colno, byte=offset
    )


FORMATS: Final = (
    Format(JSON, JSON.encode(), _json),
    Format(NDJSON, JSON.encode(), _ndjson),
    Format(SENML_JSON, SENML_JSON.encode(), _json),
    Format(SENML_CBOR, SENML_CBOR.encode(), _cbor),
)
_FORMATS: Final = {f.media_type: f for f in FORMATS}
