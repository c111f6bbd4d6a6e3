"""Times as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from cli.times import parse

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T12:00:00+02:00", datetime(2026, 1, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_date_or_how_long_ago(text: str, expected: datetime) -> None:
    assert parse(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5w", "-1h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text, NOW)
