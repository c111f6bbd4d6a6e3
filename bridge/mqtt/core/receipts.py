"""End-to-end acknowledgement: which (boot, seq) of which device Kafka holds, as ranges; a message a device and boot."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import orjson

from bridge.core.rows import Properties
from schemas import topics

_MOST: Final = (1 << 63) - 1

Asked = tuple[bytes, Properties]
"""(publisher, properties) of a message that asked for it."""


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Inclusive ranges, ascending, that together hold exactly these numbers."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def receipts(asked: Iterable[Asked]) -> list[tuple[str, bytes]]:
    """(topic, JSON) of what to publish: `{"boot":B,"ranges":[[first,last],…]}`.

    What carries no unsigned boot and seq, or comes from no valid device id, gets no answer: nobody could match it.
    """
    held: dict[tuple[bytes, int], list[int]] = defaultdict(list)
    for device, properties in asked:
        boot, seq = _number(properties.boot), _number(properties.seq)
        if boot is not None and seq is not None:
            held[device, boot].append(seq)
    return [
        (topics.ack_topic(name), orjson.dumps({"boot": boot, "ranges": ranges(numbers)}))
        for (device, boot), numbers in held.items()
        if topics.is_device_id(name := device.decode("ascii", "replace"))
    ]


def _number(text: bytes | None) -> int | None:
    if text is None or not text.isdigit() or len(text) > 19:
        return None
    number = int(text)
    return number if number <= _MOST else None
