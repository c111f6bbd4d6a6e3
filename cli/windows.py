"""`millrace windows`: check, publish and show how windows are made."""

import click

from cli import stage_settings
from streams.aggregate.windowing import Windowing, check, decode


@click.group()
def windows() -> None:
    """Windows: their length, lateness, sketches and groups. The language is described in streams/aggregate/README.md.

    Example: millrace windows check windows.yaml && millrace windows apply windows.yaml
    """


def _summary(found: Windowing) -> str:
    groups = f"groups by {', '.join(found.groups)}" if found.groups else "no groups"
    return f"of {found.window_s} s, {'with' if found.sketch else 'without'} sketches, {groups}"


stage_settings.add(windows, "windows", "aggregate", check, decode, Windowing, _summary)
