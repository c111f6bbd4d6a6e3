"""A decoded message, as formats give it: plain tuples, for everything that does not go through the batch path."""

from typing import Final, NamedTuple

NO_TIME: Final = -(1 << 63)
"""A reading without a time of its own: it gets the message's."""

Reading = tuple[str, float, str | None, int, str | None]
"""One value of one metric: (metric, value, text, time_ms, child). The value is NaN exactly where text is given; time_ms
may be NO_TIME; child is None for the publisher's own. No NamedTuple: making one costs more than reading a number."""


class Message(NamedTuple):
    """At least one reading; boot and seq of the payload, -1 when it has none."""

    boot: int
    seq: int
    readings: list[Reading]
