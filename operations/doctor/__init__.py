"""Checks of a deployment from outside: what is wrong and what to do."""

from operations.doctor.checks import DoctorSettings
from operations.doctor.judge import Finding, Level, worst
from operations.doctor.run import doctor

__all__ = ["DoctorSettings", "Finding", "Level", "doctor", "worst"]
