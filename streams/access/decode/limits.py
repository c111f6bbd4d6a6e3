"""What a message may hold at most, the grammar of its names, numbers and times, and the error that says it does not."""

import math
from typing import Final

from schemas.errors import ContractError
from schemas.stamps import MAX_WHOLE, iso_ms, time_ms, whole_number
from schemas.topics import MAX_CHARS, is_device_id, is_name
from streams.access.decode.message import NO_TIME

MAX_DEPTH: Final = 4
"""Levels of nested objects: the dots in a metric are at most one fewer."""
MAX_OBJECT_READINGS: Final = 64
"""Readings of one JSON object; a sensor has a handful."""
MAX_MESSAGE_READINGS: Final = 10_000
"""Readings of one message: what gateways gather in arrays, SenML packs and Arrow streams."""
MAX_NUMBER: Final = 2.0**63
"""Values stay below it on both sides: beyond, parsers begin to disagree about integers."""

RULES: Final = {
    "content_type": "no format is known for it",
    "json": "not JSON",
    "utf8": "not UTF-8",
    "cbor": "not CBOR",
    "arrow": "not an Arrow stream, cut off or compressed",
    "senml": "against RFC 8428",
    "shape": "no readings where they are expected, too many, or too deep",
    "metric_name": "a name against the grammar",
    "number": "not finite, or beyond 2^63",
    "device": "a child whose id is not valid",
    "ts": "not a valid time",
    "boot": "no number, or property and payload contradict each other",
    "seq": "no number, or property and payload contradict each other",
    "too_large": "more than a Kafka record holds; only its beginning was kept",
    "internal": "a decoder has a bug",
}
"""Why messages become dead letters here: the rule before the colon of a reason, and what it means."""

is_metric = is_name
is_child = is_device_id
CHILD_CHARS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
MAX_CHILD_CHARS: Final = MAX_CHARS
"""The same as `is_child`, for who looks at all bytes of many at once."""


class Invalid(Exception):
    """A message that cannot be decoded: `rule: detail`, and boot and seq as far as they could be read."""

    def __init__(self, rule: str, detail: str, boot: int = -1, seq: int = -1) -> None:
        super().__init__(f"{rule}: {detail}")
        self.boot = boot
        self.seq = seq


def shown(value: object) -> str:
    """A value as reasons quote it: short, whatever it is."""
    if isinstance(value, str | bytes):
        return repr(value[:40])
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) < 10**30):
        return repr(value)
    return f"a {type(value).__name__}"


def whole(value: object, rule: str) -> int:
    """boot or seq of a payload: a whole number from 0 below 2^53; -1 for None. 5.0 is 5, True is none."""
    if value is None:
        return -1
    if type(value) in (int, float) and 0 <= value < MAX_WHOLE and value == int(value):  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise Invalid(rule, f"{shown(value)} is not a whole number from 0 below 2^53")


def whole_text(text: str, rule: str) -> int:
    """boot or seq of a user property."""
    try:
        return whole_number(text)
    except ContractError as error:
        raise Invalid(rule, f"property {error}") from None


def moment(value: object) -> int:
    """Milliseconds since 1970 of a payload's time: a whole number of them, or ISO 8601 (UTC unless it says); NO_TIME
    for None."""
    if value is None:
        return NO_TIME
    if type(value) is str:
        return iso(value)
    if type(value) in (int, float) and abs(value) < MAX_WHOLE and value == int(value):  # type: ignore[arg-type,call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise Invalid("ts", f"{shown(value)} is neither whole milliseconds nor ISO 8601")


def moment_text(text: str) -> int:
    """Time of a user property."""
    try:
        return time_ms(text)
    except ContractError as error:
        raise Invalid("ts", str(error)) from None


def iso(text: str) -> int:
    """ISO 8601 to milliseconds, rounded down."""
    try:
        return iso_ms(text)
    except ContractError as error:
        raise Invalid("ts", str(error)) from None


def number(value: float, metric: str) -> float:
    """A reading's number. -0.0 becomes 0.0, so that equal values have equal bytes."""
    try:
        found = float(value) + 0.0
    except OverflowError:
        found = math.inf
    if not -MAX_NUMBER < found < MAX_NUMBER:
        raise Invalid("number", f"{metric} is {found}: not finite or beyond 2^63")
    return found
