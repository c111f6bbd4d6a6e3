"""Settings of the control relay."""

from dataclasses import dataclass
from typing import Final

from runtime.settings import KafkaSettings, ServiceSettings, setting

GROUP: Final = "millrace-relay"


@dataclass(frozen=True)
class RelaySettings(KafkaSettings, ServiceSettings):
    """Everything `python -m control.relay` reads."""

    tick_ms: int = setting(1_000, doc="time between ticks, milliseconds", low=50, high=60_000)
    silence_s: float = setting(10.0, doc="seconds without a tick after which the relay is not ready", low=1, high=600)
