"""Settings of the aggregate stage: those of every stage. How windows are made (windowing.py) comes in band."""

from dataclasses import dataclass

from runtime.stage.settings import StageSettings


@dataclass(frozen=True)
class Settings(StageSettings):
    """The aggregate stage needs nothing of its own."""
