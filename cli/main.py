"""`millrace NOUN VERB`: each noun is a module of this package, imported when it is called."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from cli.errors import ClosedPipeError, Exit, explain
from cli.target import META

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
    "stage": "cli.stage",
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


class Commands(click.Group):
    """Commands are imported when they are called: `millrace --help` costs no pyarrow. Failures end as cli/errors.py
    says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ClosedPipeError from None  # click would end with 1, as if the command had failed
        except Exception as error:
            if META in ctx.meta:
                error.add_note(f"asked: {ctx.meta[META]}")
            raise
        return found

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(Commands, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        try:
            code = run()
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (Exception, KeyboardInterrupt) as error:
            code = _failed(error)
        sys.exit(code if isinstance(code, int) else Exit.OK)


def _failed(error: BaseException) -> Exit:
    """Print what happened; the exit code."""
    found = explain(error)
    if found is None:
        traceback.print_exception(error)
        click.echo("millrace: this is a bug; please report it with the lines above", err=True)
        return Exit.BUG
    code, lines = found
    if code is Exit.UNAVAILABLE:
        lines += getattr(error, "__notes__", [])
    for line in lines:
        click.echo(f"millrace: {line}", err=True)
    if code is Exit.CLOSED_PIPE:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter flushes it at its end)
    return code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="millrace")
def millrace() -> None:
    """Millrace: telemetry from devices to tables, without loss or duplication.

    Exit codes: 0 done, 1 failed or found something wrong, 2 wrong usage, 69 Kafka or ClickHouse away, 75 stored and not
    yet in force, 78 wrong settings or no platform.

    Example: millrace up --insecure-loopback --detach
    """


def main() -> None:
    """Entry point."""
    millrace()


if __name__ == "__main__":
    main()
