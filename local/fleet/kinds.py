"""Kinds of device: role, channel and what they measure. Values are within the limits of the shipped policies."""

from dataclasses import dataclass
from typing import Final

from schemas.vocabulary import Role

METRICS: Final = 3
"""Metrics of every kind, so that a fleet's values are one table."""


@dataclass(frozen=True, slots=True)
class Metric:
    """base ± spread (differs by device) + swing·sin(day) + noise·N(0, 1) + slope_per_h·hours, in the metric's unit."""

    name: str
    base: float
    spread: float
    swing: float
    noise: float
    decimals: int
    slope_per_h: float = 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """`weight`: messages for each message of a climate sensor. `forbidden`: a channel that the role may not publish."""

    name: str
    role: Role
    channel: str
    forbidden: str
    weight: int
    metrics: tuple[Metric, Metric, Metric]


CLIMATE: Final = Kind(
    "climate",
    Role.TEMPERATURE_SENSOR,
    "climate",
    "motor",
    1,
    (
        Metric("temperature", 19.0, 3.0, 4.0, 0.15, 2),  # °C
        Metric("humidity", 50.0, 8.0, 9.0, 0.6, 1),  # %
        Metric("pressure", 1013.0, 4.0, 2.0, 0.2, 1),  # hPa
    ),
)
MOTOR: Final = Kind(
    "motor",
    Role.MOTOR,
    "motor",
    "climate",
    2,
    (
        Metric("rpm", 1480.0, 300.0, 120.0, 6.0, 1),
        Metric("vibration", 2.4, 0.5, 0.4, 0.08, 3),  # mm/s
        Metric("temperature", 62.0, 6.0, 7.0, 0.4, 1),  # °C
    ),
)
METER: Final = Kind(
    "meter",
    Role.METER,
    "meter",
    "motor",
    1,
    (
        Metric("power", 4200.0, 900.0, 1800.0, 60.0, 1),  # W
        Metric("energy", 80_000.0, 60_000.0, 0.0, 0.0, 3, slope_per_h=4.2),  # kWh
        Metric("voltage", 230.0, 1.5, 1.2, 0.4, 2),  # V
    ),
)
GATEWAY: Final = Kind("gateway", Role.GATEWAY, "climate", "", 1, CLIMATE.metrics)
"""Publishes for its children, which are climate sensors; may publish on any channel of its own."""

KINDS: Final = (CLIMATE, MOTOR, METER, GATEWAY)
