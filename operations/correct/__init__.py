"""Readings that an older decoder got wrong, decoded again from telemetry.raw."""

from operations.correct.compare import Comparison
from operations.correct.phases import Correction
from operations.correct.run import CorrectResult, Interrupted, correct

__all__ = ["Comparison", "CorrectResult", "Correction", "Interrupted", "correct"]
