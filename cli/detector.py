"""`millrace detector`: check, publish and show how readings are watched."""

import click

from cli import stage_settings
from streams.anomaly.detectors import Detectors, check, decode, default


@click.group()
def detector() -> None:
    """Detectors: how readings are watched. The language is described in streams/anomaly/README.md.

    Example: millrace detector check detectors.yaml && millrace detector apply detectors.yaml
    """


def _summary(found: Detectors) -> str:
    watching = sum(len(rule.detectors) for rule in found.rules)
    return f"{len(found.rules)} rules with {watching} detectors, {len(found.shifts)} shifts"


stage_settings.add(detector, "detectors", "anomaly", check, decode, default, _summary)
