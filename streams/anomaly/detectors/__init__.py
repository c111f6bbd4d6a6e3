"""Detector settings: how readings are watched. Written in YAML, checked with every mistake at once, published as JSON.

    detectors = check(text, "detectors.yaml")   # raises DetectorError with every mistake and its line
    detectors.encode()                          # value of the control record `settings/anomaly`
    decode(value)                               # the same settings again

The language is described in streams/anomaly/README.md; what holds before any are published is default.yaml.
"""

from functools import cache
from importlib import resources

from streams.anomaly.detectors.check import DetectorError, check, decode
from streams.anomaly.detectors.model import ALL, SHIFT, Detector, Detectors, Incidents, Kind, Rule, Shift


def shipped() -> str:
    """YAML of the settings that come with Millrace."""
    return resources.files("streams.anomaly").joinpath("detectors", "default.yaml").read_text(encoding="utf-8")


@cache
def default() -> Detectors:
    """What is in force until settings are published."""
    return check(shipped(), "default.yaml")


__all__ = [
    "ALL",
    "SHIFT",
    "Detector",
    "DetectorError",
    "Detectors",
    "Incidents",
    "Kind",
    "Rule",
    "Shift",
    "check",
    "decode",
    "default",
    "shipped",
]
