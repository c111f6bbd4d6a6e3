"""Settings of the access stage: those of every stage. How it judges is policy, and comes in band."""

from dataclasses import dataclass

from runtime.stage.settings import StageSettings


@dataclass(frozen=True)
class Settings(StageSettings):
    """The access stage needs nothing of its own."""
