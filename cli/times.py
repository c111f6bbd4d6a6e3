"""Times as people write them: ISO 8601, or how long ago."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from schemas.stamps import iso

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_is_ago = re.compile(r"(\d+(?:\.\d+)?)([smhd])").fullmatch


def parse(text: str, now: datetime) -> datetime:
    """`2026-01-31T12:00:00Z` (UTC unless it says) or `90s`, `15m`, `2h`, `7d` before `now`. Raises ValueError."""
    ago = _is_ago(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    return iso(text)


class Moment(click.ParamType):
    """A time option."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse(str(value), datetime.now(UTC))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time: expected ISO 8601, or 15m, 2h, 7d for how long ago", param, ctx)
