"""What a device of the fleet publishes."""

from typing import NamedTuple


class Publication(NamedTuple):
    """A message to be published. `topic` with its length (`runtime.mqtt.wire.binary`), `properties` encoded, without
    their length; `name` (boot, seq) when end-to-end acknowledgement is awaited."""

    topic: bytes
    properties: bytes
    payload: bytes
    name: tuple[int, int] | None = None
