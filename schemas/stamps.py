"""boot, seq and ts as devices write them in texts: MQTT's user properties, HTTP's headers, times in payloads."""

import re
from datetime import UTC, datetime
from typing import Final

from schemas.errors import ContractError

MAX_WHOLE: Final = 1 << 53
"""boot, seq and milliseconds stay below it: what every JSON reader holds exactly."""
_is_whole = re.compile(r"[0-9]{1,16}", re.ASCII).fullmatch
_is_ms = re.compile(r"-?[0-9]{1,16}", re.ASCII).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def whole_number(text: str) -> int:
    """boot or seq. Raises ContractError."""
    if _is_whole(text) and (number := int(text)) < MAX_WHOLE:
        return number
    raise ContractError(f"{text[:40]!r} is not a whole number from 0 below 2^53")


def time_ms(text: str) -> int:
    """Milliseconds since 1970 of a ts: a whole number of them, or ISO 8601. Raises ContractError."""
    if _is_ms(text) and abs(number := int(text)) < MAX_WHOLE:
        return number
    return iso_ms(text)


def iso_ms(text: str) -> int:
    """Milliseconds since 1970 of a time in ISO 8601, rounded down. Raises ContractError."""
    try:
        since = iso(text) - _EPOCH
    except (ValueError, OverflowError):
        raise ContractError(f"{text[:40]!r} is neither whole milliseconds nor ISO 8601") from None
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def iso(text: str) -> datetime:
    """A time in ISO 8601; UTC unless it says. Raises ValueError, OverflowError."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
