"""The command: every look, whatever another met; a table or JSON; exit code 1 when something is wrong."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import orjson
from confluent_kafka import KafkaException

from cli.context import data_option, settings
from operations.doctor import judge
from operations.doctor.judge import Finding, Level
from operations.doctor.look import DoctorSettings, Looks
from runtime.errors import MillraceError
from schemas.errors import ContractError

_SIGN = {Level.OK: "ok   ", Level.WARN: "warn ", Level.WRONG: "WRONG"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object a finding.")
@data_option
def doctor(as_json: bool, data: Path) -> None:
    """Check a deployment from outside: reachability, certificates, topics, time, lag, migrations, policies, versions,
    disk, ledger. Prints what is wrong and what to do; the exit code is 1 then.

    Example: millrace doctor
    """
    looks = Looks(settings(DoctorSettings, data, reachable=False), data).all()
    findings = [finding for name, look in looks.items() for finding in examined(name, look)]
    for finding in findings:
        click.echo(_json(finding) if as_json else _line(finding))
    if judge.worst(findings) is Level.WRONG:
        sys.exit(1)


def examined(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What one look finds; that it could see nothing is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except KafkaException as error:
        found.append(Finding(name, Level.WRONG, f"Kafka: {error.args[0].str()}", "does it run and is it reachable?"))
    except (MillraceError, ContractError, OSError, ValueError, KeyError, TimeoutError) as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        found.append(Finding(name, Level.WRONG, f"cannot be seen: {text}", "mend that first, then ask again"))
    return found


def _json(finding: Finding) -> str:
    body = {"check": finding.check, "level": finding.level, "what": finding.what, "do": finding.do}
    return orjson.dumps(body).decode()


def _line(finding: Finding) -> str:
    text = f"{_SIGN[finding.level]} {finding.check:13} {finding.what}"
    return f"{text}\n{'':20}-> {finding.do}" if finding.do else text
