"""SenML (RFC 8428): records with base values, resolved; the same for JSON and CBOR, whose labels differ.

Resolution (section 4.6): base name, time, value and sum are added to each record's own until a later base replaces
them; where one of the two is missing it counts as zero. A record with neither value nor sum only sets bases. Times
below 2^28 seconds are relative to now (4.5.3), and now is when the bridge received the message. A field whose label
ends with `_` has to be understood (4.4): none is, so such a message is refused.

A resolved name becomes a child and a metric:
    temperature                            metric `temperature` of the publisher
    kitchen:temperature, kitchen/air/co2   metrics `temperature` and `air.co2` of the child `kitchen`
    urn:dev:mac:0024befffe804ff1:voltage   metric `voltage` of the child `mac-0024befffe804ff1`
    urn:dev:ow:10e2073a01080063            metric `value` of the child `ow-10e2073a01080063`
The child's id in lower case must be a device id; a child that is the publisher itself is none.

`v` and `vb` are numbers, `vs` and `vd` (base64url, as it came) are text, `s` is the metric `{metric}.sum`. Units and
update times are checked for type and not kept.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Final

from schemas.stamps import MAX_WHOLE
from streams.access.decode.limits import MAX_MESSAGE_READINGS, Invalid, is_child, is_metric, number, shown
from streams.access.decode.message import NO_TIME, Message, Reading

NEWEST_VERSION: Final = 10
RELATIVE_BELOW_S: Final = 1 << 28
MAX_NAME_CHARS: Final = 160

_is_name: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*", re.ASCII).fullmatch
_URN: Final = re.compile(r"urn:dev:([a-z]+):([A-Za-z0-9.-]+)(?:[:/_](.*))?")
_CHILD: Final = re.compile(r"([^:/]+)[:/](.*)")
_NUMBERS: Final = ("bt", "bv", "bs", "t", "v", "s", "ut")
_TEXTS: Final = ("bn", "n", "bu", "u", "vs")
_VALUES: Final = ("v", "vs", "vb", "vd")
_MEASURED: Final = (*_VALUES, "s")
_BASES: Final = ("bn", "bt", "bv", "bs")
_MAX_S: Final = MAX_WHOLE / 2000
_VALUE: Final = "value"
"""Metric of a record that names a device and nothing of it."""


def resolve(pack: Any, received_ms: int, text_of_data: Callable[[Any], str | None]) -> Message:
    """A parsed pack, labels as in JSON, to readings. `text_of_data`: `vd` as text, None if it has a wrong type."""
    if type(pack) is not list or not pack or any(type(record) is not dict for record in pack):
        raise Invalid("senml", "expected an array of records")
    if len(pack) > MAX_MESSAGE_READINGS:
        raise Invalid("shape", f"more than {MAX_MESSAGE_READINGS} records in a message")
    version = pack[0].get("bver", NEWEST_VERSION)
    if type(version) is not int or not 1 <= version <= NEWEST_VERSION:
        raise Invalid("senml", f"version {shown(version)} is not known; known are 1 to {NEWEST_VERSION}")
    out: list[Reading] = []
    bases: dict[str, Any] = {}
    for record in pack:
        _check(record, version)
        bases.update((label, record[label]) for label in _BASES if label in record)
        if any(label in record for label in _MEASURED):
            _record(record, bases, received_ms, text_of_data, out)
    if not out:
        raise Invalid("shape", "no reading in it")
    if len(out) > MAX_MESSAGE_READINGS:
        raise Invalid("shape", f"more than {MAX_MESSAGE_READINGS} readings in a message")
    return Message(-1, -1, out)


def _check(record: dict[Any, Any], version: int) -> None:
    """Types of the fields, and no field that has to be understood and is not."""
    for label, value in record.items():
        if label in _NUMBERS and (type(value) not in (int, float) or not _is_finite(value)):
            raise Invalid("senml", f"{label} is {shown(value)}; expected a finite number")
        if label in _TEXTS and type(value) is not str:
            raise Invalid("senml", f"{label} is {shown(value)}; expected text")
        if type(label) is str and label.endswith("_"):
            raise Invalid("senml", f"field {shown(label)} has to be understood and is not")
    if record.get("bver", version) != version:
        raise Invalid("senml", f"one message, but its records say version {version} and {shown(record['bver'])}")
    if sum(label in record for label in _VALUES) > 1:
        raise Invalid("senml", "a record has one value at most")


def _record(
    record: dict[str, Any],
    bases: dict[str, Any],
    received_ms: int,
    text_of_data: Callable[[Any], str | None],
    out: list[Reading],
) -> None:
    """Append what one record says: a value, a sum or both."""
    child, metric = split(bases.get("bn", "") + record.get("n", ""))
    time_ms = _time(record, bases, received_ms)
    value, text = _value(record, bases, text_of_data)
    if text is not None:
        out.append((metric, math.nan, text, time_ms, child))
    elif value is not None:
        out.append((metric, number(value, metric), None, time_ms, child))
    if "s" in record or "bs" in bases:
        total = record.get("s", 0) + bases.get("bs", 0)
        out.append((f"{metric}.sum", number(total, metric), None, time_ms, child))


def _value(
    record: dict[str, Any], bases: dict[str, Any], text_of_data: Callable[[Any], str | None]
) -> tuple[float | None, str | None]:
    """(number, text) of a record; neither for one that has only a sum."""
    if "vs" in record:
        return None, record["vs"]
    if "vd" in record:
        text = text_of_data(record["vd"])
        if text is None:
            raise Invalid("senml", f"vd is {shown(record['vd'])}; expected data")
        return None, text
    if "vb" in record:
        if type(record["vb"]) is not bool:
            raise Invalid("senml", f"vb is {shown(record['vb'])}; expected true or false")
        return float(record["vb"]), None
    if "v" in record or "bv" in bases:
        return record.get("v", 0) + bases.get("bv", 0), None
    return None, None


def _time(record: dict[str, Any], bases: dict[str, Any], received_ms: int) -> int:
    """Milliseconds since 1970; without any time the message's."""
    if "t" not in record and "bt" not in bases:
        return NO_TIME
    time_s = bases.get("bt", 0) + record.get("t", 0)
    if not abs(time_s) < _MAX_S:
        raise Invalid("ts", f"time {shown(time_s)} s is beyond what milliseconds hold")
    own_ms: int = round(time_s * 1000)
    return own_ms + (received_ms if time_s < RELATIVE_BELOW_S else 0)


def split(name: str) -> tuple[str | None, str]:
    """(child, metric) of a resolved name. Raises Invalid."""
    if not _is_name(name) or len(name) > MAX_NAME_CHARS:
        raise Invalid("metric_name", f"SenML name {shown(name)} does not match [A-Za-z0-9][A-Za-z0-9:./_-]*")
    if found := _URN.fullmatch(name):
        child, rest = f"{found[1]}-{found[2]}", found[3] or _VALUE
    elif name.startswith("urn:"):
        raise Invalid("metric_name", f"SenML name {shown(name)}: of URNs only urn:dev:{{type}}:{{id}} is known")
    elif found := _CHILD.fullmatch(name):
        child, rest = found[1], found[2] or _VALUE
    else:
        return None, _metric(name)
    child = child.lower()
    if not is_child(child):
        raise Invalid("device", f"{shown(child)} in SenML name {shown(name)} is not a valid device id")
    return child, _metric(rest)


def _metric(path: str) -> str:
    parts = re.split("[:/]", path)
    if not all(map(is_metric, parts)):
        raise Invalid("metric_name", f"{shown(path)} has a part that does not match [A-Za-z0-9_.-]{{1,64}}")
    return ".".join(parts)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
