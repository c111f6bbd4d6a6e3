"""Where the platform is: `DATA/run/env`, written by `millrace up`, under whatever the environment says."""

import os
from pathlib import Path
from typing import TypeVar

import click

from runtime.settings import load

T = TypeVar("T")

DATA_ENV = "MILLRACE_DATA"
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: Path(os.environ.get(DATA_ENV, "data")),
    help="The platform's data folder (default: $MILLRACE_DATA or ./data).",
)


def environment(data: Path) -> dict[str, str]:
    """Settings of a client: lines KEY=VALUE of DATA/run/env, overridden by the process's own environment."""
    file = data / "run" / "env"
    lines = file.read_text().splitlines() if file.exists() else []
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return found | {key: value for key, value in os.environ.items() if key.startswith("MILLRACE_")}


def settings(cls: type[T], data: Path) -> T:
    return load(cls, environment(data))
