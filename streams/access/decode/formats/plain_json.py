"""JSON: an object, nested up to MAX_DEPTH, or an array of objects, each with its own `ts` and `device`.

Duplicate keys: the last one counts, as orjson and most parsers have it. `boot` and `seq` name the message: they stand
in the first object, and where another repeats them it must say the same.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import orjson

from schemas.stamps import MAX_WHOLE
from streams.access.decode.limits import (
    MAX_DEPTH,
    MAX_MESSAGE_READINGS,
    MAX_OBJECT_READINGS,
    Invalid,
    is_child,
    is_metric,
    moment,
    number,
    shown,
    whole,
)
from streams.access.decode.message import Message, Reading

_RESERVED: Final = frozenset(("ts", "boot", "seq", "device"))


def decode(payload: bytes, received_ms: int) -> Message:
    return flatten(parse(payload))


def parse(payload: bytes) -> Any:
    """Source of what is JSON: orjson (RFC 8259; no NaN, no comments, valid UTF-8, nested at most 1,024 deep)."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _why(payload, error) from None


def child_of(value: object) -> str | None:
    """The device id of a `device` key. Raises Invalid."""
    if value is None or (type(value) is str and is_child(value)):
        return value
    raise Invalid("device", f"{shown(value)} is not a valid device id")


def flatten(
    found: Any,
    time: Callable[[object], int] = moment,
    child: Callable[[object], str | None] = child_of,
) -> Message:
    """Parsed JSON to a message. `time` and `child` read `ts` and `device`; templates.py learns with its own."""
    objects = [found] if type(found) is dict else found
    if type(objects) is not list or not objects:
        raise Invalid("shape", "expected an object or an array of objects")
    boot, seq = _identity(objects)
    readings: list[Reading] = []
    try:
        for one in objects:
            stop = len(readings) + MAX_OBJECT_READINGS
            _walk(one, "", time(one.get("ts")), child(one.get("device")), readings, stop, 1)
            if len(readings) > MAX_MESSAGE_READINGS:
                raise Invalid("shape", f"more than {MAX_MESSAGE_READINGS} readings in a message")
        if not readings:
            raise Invalid("shape", "no reading in it")
    except Invalid as error:
        error.boot, error.seq = boot, seq
        raise
    return Message(boot, seq, readings)


def _identity(objects: list[Any]) -> tuple[int, int]:
    """boot and seq of the message. Raises Invalid, also when one of them is not an object."""
    first = objects[0]
    if type(first) is not dict:
        raise Invalid("shape", "expected an object or an array of objects")
    boot, seq = whole(first.get("boot"), "boot"), whole(first.get("seq"), "seq")
    for other in objects[1:]:
        if type(other) is not dict:
            raise Invalid("shape", "expected an array of objects only", boot, seq)
        for key, mine in (("boot", boot), ("seq", seq)):
            if other.get(key) is not None and whole(other[key], key) != mine:
                raise Invalid(key, f"one message, but its objects say {mine} and {shown(other[key])}")
    return boot, seq


def _walk(
    one: dict[str, Any], prefix: str, time: int, child: str | None, out: list[Reading], stop: int, depth: int
) -> None:
    """Append the readings of an object and of those in it."""
    if depth > MAX_DEPTH:
        raise Invalid("shape", f"objects nested deeper than {MAX_DEPTH}")
    for key, value in one.items():
        if not prefix and key in _RESERVED:
            continue
        if not is_metric(key):
            raise Invalid("metric_name", f"{shown(key)} does not match [A-Za-z0-9_.-]{{1,64}}")
        kind = type(value)
        metric = prefix + key
        if (kind is float or kind is int) and -MAX_WHOLE < value < MAX_WHOLE:  # as number(), without the call
            out.append((metric, value + 0.0, None, time, child))
        elif kind is float or kind is int or kind is bool:
            out.append((metric, number(value, metric), None, time, child))
        elif kind is str:
            out.append((metric, math.nan, value, time, child))
        elif kind is dict:
            _walk(value, metric + ".", time, child, out, stop, depth + 1)
        elif value is not None:
            raise Invalid("shape", f"{metric} is an array")
        if len(out) > stop:
            raise Invalid("shape", f"more than {MAX_OBJECT_READINGS} readings in an object")


def _why(payload: bytes, error: orjson.JSONDecodeError) -> Invalid:
    try:
        payload.decode()
    except UnicodeDecodeError as wrong:
        return Invalid("utf8", f"byte {wrong.start} is no UTF-8")
    return Invalid("json", str(error)[:120])
