"""Whether bytes are one well-formed CBOR data item (RFC 8949, appendix C), and if not, where they stop to be.

A check and not a decoder: nothing is built, tags are not interpreted, memory is the depth of the nesting.
"""

from typing import Final

from bridge.http.errors import broken, too_large

MAX_DEPTH: Final = 64
MAX_ITEMS: Final = 100_000
"""Data items in one message; no message with so many readings would be accepted, and each costs time here."""

_BREAK: Final = 0xFF
_ANY: Final = -1
"""Items left in an array of indefinite length."""
_KEY: Final = -2
_VALUE: Final = -3
"""Items left in a map of indefinite length, which must not end between a key and its value."""
_AFTER: Final = {_ANY: _ANY, _KEY: _VALUE, _VALUE: _KEY}


def check(data: bytes) -> None:
    """Raises Refusal with the byte at fault: 400 not well-formed, 413 more items than anybody would take."""
    at = items = 0
    left = [1]
    tagged = False
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        if at < len(data) and data[at] == _BREAK:
            if tagged or left[-1] not in (_ANY, _KEY):
                raise broken("CBOR: a break where none may be", byte=at)
            left.pop()
            at += 1
            continue
        start = at
        major, argument, at = _head(data, at)
        items += 1
        if items > MAX_ITEMS:
            raise too_large(f"CBOR: more than {MAX_ITEMS} data items", byte=start)
        tagged = major == 6
        if tagged:
            continue
        left[-1] = _AFTER.get(left[-1], left[-1] - 1)
        if major in (2, 3):
            at = _string(data, start, major, argument, at)
        elif major in (4, 5):
            left.append(_opened(major, argument))
            if len(left) > MAX_DEPTH:
                raise broken(f"CBOR: nested deeper than {MAX_DEPTH}", byte=start)
    if at < len(data):
        raise broken("CBOR: something follows the data item", byte=at)


def _opened(major: int, argument: int | None) -> int:
    if argument is None:
        return _ANY if major == 4 else _KEY
    return argument if major == 4 else 2 * argument


def _head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """(major type, argument or None for indefinite length, offset behind the head)."""
    if at >= len(data):
        raise broken("CBOR: the data item is cut off", byte=at)
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    if info == 31 and major in (2, 3, 4, 5):
        return major, None, at + 1
    if info > 27:
        raise broken(f"CBOR: no data item begins with 0x{data[at]:02x}", byte=at)
    end = at + 1 + (1 << info - 24)
    if end > len(data):
        raise broken("CBOR: the data item is cut off", byte=at)
    argument = int.from_bytes(data[at + 1 : end])
    if major == 7 and info == 24 and argument < 32:
        raise broken("CBOR: a simple value in a form too long for it", byte=at)
    return major, argument, end


def _string(data: bytes, start: int, major: int, length: int | None, at: int) -> int:
    """Offset behind a string that began at `start` and whose content begins at `at`."""
    if length is not None:
        return _content(data, start, major, length, at)
    while at >= len(data) or data[at] != _BREAK:
        chunk, length, behind = _head(data, at)
        if chunk != major or length is None:
            raise broken("CBOR: a string of indefinite length holds something else than its chunks", byte=at)
        at = _content(data, at, major, length, behind)
    return at + 1


def _content(data: bytes, start: int, major: int, length: int, at: int) -> int:
    end = at + length
    if end > len(data):
        raise broken("CBOR: a string is cut off", byte=start)
    if major == 3:
        try:
            data[at:end].decode()
        except UnicodeDecodeError as error:
            raise broken("CBOR: a text string is not valid UTF-8", byte=at + error.start) from None
    return end
