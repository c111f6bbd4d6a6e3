"""What commands share that publish into `platform.control`: read a checked file, write a record, know its version."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from runtime.checking.checker import Mistakes
from runtime.errors import RetryableError
from runtime.kafka import topics
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from schemas.topics import CONTROL

T = TypeVar("T")
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def read(file: Path, check: Callable[[str, str], T]) -> T:
    """What `check(text, source)` makes of a file; every mistake on standard error and exit code 1 otherwise."""
    try:
        return check(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        mistakes = [f"{file}:1: byte {error.start} is no UTF-8"]
    except Mistakes as error:
        mistakes = error.mistakes
    for mistake in mistakes:
        click.echo(mistake, err=True)
    click.echo(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}; nothing was changed", err=True)
    raise SystemExit(1)


def publish(kafka: KafkaSettings, key: str, value: bytes, see: str) -> tuple[int, int]:
    """Write a control record and wait for the acknowledgement; its version (epoch, offset). `see`: the command that
    tells whether it is in force when none came."""
    current = epoch(kafka)
    try:
        written = produce_confirmed(kafka, [NewRecord(CONTROL, value, key=key)])
    except RetryableError as error:
        raise RetryableError(f"{key} may or may not be in force (`{see}` shows it): {error}") from error
    return current, written[CONTROL, 0]


def epoch(kafka: KafkaSettings) -> int:
    """That of platform.control."""
    return topics.facts(kafka, CONTROL)[CONTROL].epoch
