"""What commands share that publish into `platform.control`: read a checked file, write a record, know its version."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from cli.errors import NotInForceError
from control import decisions
from runtime.checking.checker import Mistakes
from runtime.errors import RetryableError
from runtime.kafka import applied, topics
from runtime.settings import KafkaSettings
from schemas.control import is_subject
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
    """Write a control record; its version (epoch, offset). `see`: the command that shows whether it is in force when
    Kafka did not answer."""
    current = epoch(kafka)
    write = decisions.record if is_subject(key) else decisions.publish
    try:
        return current, write(kafka, key, value).answer
    except RetryableError as error:
        raise RetryableError(f"{key} may or may not be in force (`{see}` shows it): {error}") from error


wait_option = click.option(
    "--wait-s",
    type=click.FloatRange(0, 3_600),
    default=10.0,
    show_default=True,
    envvar="MILLRACE_WAIT_S",
    help="How long to wait until the change is in force, seconds; 0: do not wait.",
)


def wait_in_force(kafka: KafkaSettings, position: int, wait_s: float) -> None:
    """Return when every reader of platform.control has applied everything before `position`; raises NotInForceError,
    which names those that have not."""
    if wait_s <= 0 or position < 0:
        return
    try:
        late = applied.behind(kafka, position, wait_s)
    except RetryableError as error:  # the change is written, whatever came after
        why = str(error)
    else:
        if not late:
            return
        why = "; ".join(f"{one.name} is at offset {one.position}, {one.age_s:.0f} s ago" for one in late)
    raise NotInForceError(
        f"the change is written (offset {position - 1} of platform.control) and takes effect later: {why}."
        " `millrace status` shows what runs"
    )


def epoch(kafka: KafkaSettings) -> int:
    """That of platform.control."""
    return topics.facts(kafka, CONTROL)[CONTROL].epoch
