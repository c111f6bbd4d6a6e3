"""Which partition a topic goes to, remembered: murmur2 in Python costs more than all else done for a message."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from schemas.partition import partition_of

Route = tuple[Callable[[Any], None], bytes]
"""(extend of the rows of the topic's partition, publisher). `extend` takes the items of one row."""

CACHED_TOPIC_BYTES: Final = 256
"""No valid uplink topic is longer; longer ones are not remembered, so hostile topics cannot fill the memory."""


def publisher_of(topic: bytes) -> bytes:
    """The second segment: the broker lets a device publish only below `d/{its id}/`. Empty where there is none."""
    parts = topic.split(b"/", 2)
    return parts[1] if len(parts) > 1 else b""


class Routes:
    """A cache of two generations: when the young one is full it becomes the old one, and the old one is forgotten.

    `cache.get(topic) or route(topic)` is the whole use. At most 2 × `size` topics are remembered.
    """

    def __init__(self, rows: Sequence[list[Any]], size: int = 200_000) -> None:
        self._extends = [partition.extend for partition in rows]
        self._size = size
        self._old: dict[bytes, Route] = {}
        self._special: dict[bytes, Route] = {}
        self.cache: dict[bytes, Route] = {}

    def divert(self, topic: bytes, take: Callable[[Any], None]) -> None:
        """Rows of this topic go to `take` and nowhere else; that costs the rows of other topics nothing."""
        self._special[topic] = take, b""

    def route(self, topic: bytes) -> Route:
        """The route of a topic that is not in `cache`."""
        found = self._special.get(topic) or self._old.get(topic)
        if found is None:
            device = publisher_of(topic)
            found = self._extends[partition_of(device, len(self._extends))], device
        if len(topic) <= CACHED_TOPIC_BYTES:
            if len(self.cache) >= self._size:
                self._old, self.cache = self.cache, {}
            self.cache[topic] = found
        return found
