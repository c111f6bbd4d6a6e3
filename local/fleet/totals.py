"""What all devices of a fleet did together."""

from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Counts of messages, but for `connected` (MQTT connections now) and `connects` (ever)."""

    connected: int = 0
    connects: int = 0
    given: int = 0
    """What devices had to send, repeats after a reconnect not counted, those for Kafka's sake counted."""
    acknowledged: int = 0
    """PUBACK or 202."""
    resent: int = 0
    refused: int = 0
    unconfirmed: int = 0
    """End-to-end acknowledgements that are still awaited."""
    error: str = ""
    """The last reason why a connection failed or a message was refused."""

    @property
    def open(self) -> int:
        """Messages that are not done."""
        return self.given - self.acknowledged + self.unconfirmed
