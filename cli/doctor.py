"""`millrace doctor`: what is wrong with a deployment and what to do; exit code 1 when something is."""

import sys
from pathlib import Path

import click
import orjson

from cli.context import data_option, settings
from operations import doctor as operation
from operations.doctor import DoctorSettings, Finding, Level

_SIGN = {Level.OK: "ok   ", Level.WARN: "warn ", Level.WRONG: "WRONG"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object a finding.")
@data_option
def doctor(as_json: bool, data: Path) -> None:
    """Check a deployment from outside: reachability, certificates, confinement, topics, control records, time, lag,
    tables, policies, versions, disks, ledger. Prints what is wrong and what to do, as it finds it; the exit code is 1
    then.

    Example: millrace doctor
    """
    show = _json if as_json else _line
    findings = operation.doctor(
        settings(DoctorSettings, data, reachable=False), data, lambda finding: click.echo(show(finding))
    )
    if operation.worst(findings) is Level.WRONG:
        sys.exit(1)


def _json(finding: Finding) -> str:
    body = {"check": finding.check, "level": finding.level, "what": finding.what, "do": finding.do}
    return orjson.dumps(body).decode()


def _line(finding: Finding) -> str:
    text = f"{_SIGN[finding.level]} {finding.check:13} {finding.what}"
    return f"{text}\n{'':20}-> {finding.do}" if finding.do else text
