"""One word a thing: the codes that travel in columns and headers."""

from enum import IntEnum, IntFlag, StrEnum


class Verdict(IntEnum):
    """The verdict on one message. Every raw row gets exactly one.

    EVENT is not a verdict on a message but a row of telemetry.readings that reports an event of a device: what an
    accepted message outside of telemetry says, or what the platform itself saw (a connect, a disconnect).
    """

    ACCEPTED = 0
    DENIED = 1
    DEAD_LETTER = 2
    DUPLICATE = 3
    EVENT = 4


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


class Part(IntEnum):
    """Why a partial aggregate was written. Partials of a window are disjoint: the reader adds them up."""

    FINAL = 0
    """The watermark passed the window's end."""
    LATE = 1
    """For what came after that."""
    EARLY = 2
    """Before that: asked for, or to keep the number of open windows bounded."""


class Severity(IntEnum):
    """Of an incident, worst last."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2


class IncidentState(StrEnum):
    """What a row of telemetry.incidents reports."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


class Presence(StrEnum):
    """Whether a device is there."""

    ONLINE = "online"
    OFFLINE = "offline"


class Role(StrEnum):
    """The roles that come with Millrace; a policy may name others."""

    TEMPERATURE_SENSOR = "temperature-sensor"
    MOTOR = "motor"
    METER = "meter"
    GATEWAY = "gateway"
    HISTORY = "history"
