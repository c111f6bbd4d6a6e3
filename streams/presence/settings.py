"""Settings of the presence stage: those of every stage. How it judges comes in band, as rules."""

from dataclasses import dataclass

from runtime.stage.settings import StageSettings


@dataclass(frozen=True)
class Settings(StageSettings):
    """The presence stage needs nothing of its own."""
