"""Settings of the anomaly stage: those of every stage. How it watches is detector settings, and comes in band."""

from dataclasses import dataclass

from runtime.stage.settings import StageSettings


@dataclass(frozen=True)
class Settings(StageSettings):
    """The anomaly stage needs nothing of its own."""
