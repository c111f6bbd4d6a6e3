"""One word a thing: the codes that travel in columns and headers."""

from enum import IntEnum, IntFlag, StrEnum
from typing import Final


class Verdict(IntEnum):
    """The fate of one message. Every raw row gets exactly one."""

    ACCEPTED = 0
    DENIED = 1
    DEAD_LETTER = 2
    DUPLICATE = 3


class Kind(StrEnum):
    """What a Kafka record of a `telemetry.*` topic is."""

    DATA = "data"
    CONTROL = "control"
    TICK = "tick"


class Transport(IntEnum):
    """How a raw row came in. Rows by PLATFORM are Millrace's own (connects, disconnects) and are no messages."""

    MQTT = 0
    HTTP = 1
    PLATFORM = 2


class Quality(IntFlag):
    """Marks on a stored reading; 0 is good."""

    GOOD = 0
    BELOW_RANGE = 1
    ABOVE_RANGE = 2


class Role(StrEnum):
    """The roles that come with Millrace; a policy may name others."""

    TEMPERATURE_SENSOR = "temperature-sensor"
    MOTOR = "motor"
    METER = "meter"
    GATEWAY = "gateway"
    HISTORY = "history"


ABSENT: Final = -1
"""In integer columns of state, where null would cost: no value."""
