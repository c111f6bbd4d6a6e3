"""`millrace bench`: take the figures that the documentation claims, on this machine, now."""

import importlib
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import orjson

GROUPS: Final = (
    "decode",
    "anomaly_residual",
    "anomaly_faults",
    "faults",
    "anomaly",
    "access",
    "aggregate_state",
    "aggregate",
    "presence",
    "bridge",
    "http",
    "registry",
    "sink",
    "growth",
    "state",
    "footprint",
    "e2e",
)
"""Modules of benchmarks/, cheap ones first."""


def _figures(group: str) -> Iterable[dict[str, Any]]:
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    module = importlib.import_module(f"benchmarks.{group}")
    found = module.figures()
    return (f if isinstance(f, dict) else f.line() for f in found)


def _row(figure: dict[str, Any]) -> str:
    against = ""
    if figure["baseline"]:
        against = f"   {figure['baseline']}: {figure['baseline_value']}  ratio {figure['ratio']}"
    return f"{figure['name']:28} {figure['value']:>12} {figure['unit']:10}{against}"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def bench(names: tuple[str, ...], as_json: bool) -> None:
    """Run benchmarks. NAME is a group (access, bridge, …) or a figure (access_flat_us); without one all are taken.

    Needs the repository (benchmarks/) and the local engines. Example: millrace bench access --json
    """
    groups = [g for g in GROUPS if not names or g in names or any(name.startswith(g) for name in names)]
    if not groups:
        raise click.BadParameter(f"no such figure; groups are {', '.join(GROUPS)}", param_hint="NAME")
    click.echo(f"# {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}", err=True)
    for group in groups:
        for figure in _figures(group):
            if not names or group in names or figure["name"] in names:
                click.echo(orjson.dumps(figure).decode() if as_json else _row(figure))
