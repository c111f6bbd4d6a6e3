"""Explanations say in plain words what was found and what was expected."""

import math

import pytest

from streams.anomaly.core.explain import explain, explain_shift, lasting, number
from streams.anomaly.core.fixed import HIGH, LOW
from streams.anomaly.core.plan import LIMITS, RATE, RESIDUAL, SILENCE, STUCK
from streams.anomaly.core.residual import SIGNALS

NAN = math.nan
MINUTE = 60_000.0


@pytest.mark.parametrize(
    ("slot", "value", "low", "high", "facts", "text"),
    [
        (RESIDUAL, 38.2, 20.1, 22.4, [0], "38.2; usual at this hour 20.1 to 22.4"),
        (RESIDUAL, 127981.9, 127981.1, 127981.45, [0], "127981.90; usual at this hour 127981.10 to 127981.45"),
        (RESIDUAL, 21.0, 20.1, 22.4, [SIGNALS.index("level")], "but its level is where it never was"),
        (
            RESIDUAL,
            21.0,
            20.1,
            22.4,
            [SIGNALS.index("variability")],
            "21.0; within the usual 20.1 to 22.4, but it varies",
        ),
        (LIMITS, 91.26, NAN, 80.0, [HIGH, 0], "91.26; above the limit 80"),
        (LIMITS, -3.0, 0.0, 80.0, [LOW, 2 * MINUTE], "-3; below the limit 0 for 2 min"),
        (LIMITS, 78.0, NAN, 80.0, [HIGH, MINUTE], "78; above the limit 80 for 60 s, not back far enough"),
        (RATE, 30.0, 18.0, 22.0, [10 / 60, 2 / 60], "30, 20 before: 10/min, at most 2/min"),
        (STUCK, 21.25, NAN, NAN, [40, 39 * MINUTE, 1.0], "21.25 for 40 readings and 39 min; usual are 1"),
        (SILENCE, NAN, NAN, NAN, [25 * MINUTE, 5 * MINUTE], "nothing for 25 min; usual is a reading within 5 min"),
    ],
)
def test_a_line_for_each_kind(slot: int, value: float, low: float, high: float, facts: list[float], text: str) -> None:
    assert text in explain(slot, value, low, high, [*facts, NAN, NAN])


def test_a_group_is_named_with_its_numbers() -> None:
    found = explain_shift(34, 120, "site", "north", "temperature", 300_000)
    assert found == "34 of 120 among the devices of site north are strange in temperature within 5 min"
    assert explain_shift(60, 900, "all", "", "", 300_000) == "60 of 900 among all devices fell silent within 5 min"


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.678, "12346"), (0.00012345, "0.0001234"), (1e300, "1e+300"), (5.0, "5"), (math.inf, "inf")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(900, "0.9 s"), (119_000, "119 s"), (150_000, "2.5 min"), (7_200_000, "2 h"), (3e8, "3.5 d")]
)
def test_durations_have_the_unit_that_fits(ms: float, text: str) -> None:
    assert lasting(ms) == text
