"""A decoded message, as formats give it: plain tuples, for everything that does not go through the batch path."""

from typing import NamedTuple


class Reading(NamedTuple):
    """One value of one metric. `time_ms` None: the message's; `value` NaN exactly where `text` is given."""

    metric: str
    value: float
    text: str | None = None
    time_ms: int | None = None
    child: str | None = None


class Message(NamedTuple):
    """At least one reading; boot and seq of the payload, -1 when it has none."""

    boot: int
    seq: int
    readings: list[Reading]
