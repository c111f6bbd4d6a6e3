"""`millrace NOUN VERB`: each noun is a module of this package, imported when it is called."""

import importlib
import sys
from typing import Final

import click

from runtime.errors import MillraceError

COMMANDS: Final = {
    "up": "cli.up",
    "down": "cli.up",
    "status": "cli.up",
    "scale": "cli.scale",
    "init": "cli.init",
    "keys": "cli.keys",
    "demo": "cli.demo",
    "device": "cli.device",
    "policy": "cli.policy",
    "detector": "cli.detector",
    "presence": "cli.presence",
    "incident": "cli.incident",
    "backtest": "cli.backtest",
    "windows": "cli.windows",
    "fleet": "cli.fleet",
    "tail": "cli.tail",
    "restart": "cli.restart",
    "size": "cli.size",
    "sql": "cli.sql",
    "trace": "cli.trace",
    "replay": "cli.replay",
    "ledger": "cli.ledger",
    "backup": "cli.backup",
    "restore": "cli.backup",
    "rebuild": "cli.rebuild",
    "correct": "cli.correct",
    "doctor": "cli.doctor",
    "detect": "cli.detect",
    "monitoring": "cli.monitoring",
    "notify": "cli.notify",
    "bench": "cli.bench",
}
"""Name of each command and the module that holds it as an attribute of the same name."""


class Lazy(click.Group):
    """Commands are imported when they are called: `millrace --help` costs no pyarrow."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="millrace")
def millrace() -> None:
    """Millrace: telemetry from devices to a table, with nothing lost and nothing twice.

    Example: millrace up --insecure-loopback --detach
    """


def main() -> None:
    """Entry point: errors that we raise on purpose are one line, without a traceback."""
    try:
        millrace()
    except MillraceError as error:
        click.echo(f"millrace: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
