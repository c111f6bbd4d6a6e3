"""What commands share that publish into `platform.control`: read a checked file, write a record, know its version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import click

from cli import difference
from cli.errors import NotInForceError
from control import decisions, log
from runtime.checking.checker import Mistakes
from runtime.errors import RetryableError
from runtime.kafka import applied, topics
from runtime.settings import KafkaSettings
from schemas.control import good_key, is_subject
from schemas.topics import CONTROL

T = TypeVar("T")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what changes, publish nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
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


def publish(
    kafka: KafkaSettings, key: str, value: bytes, see: str, expected: int = decisions.ANY_VERSION
) -> tuple[int, int]:
    """Write a control record; its version (epoch, offset). `see`: the command that shows whether it is in force when
    Kafka did not answer. `expected`: as of decisions.publish, which raises ChangedMeanwhileError."""
    current = epoch(kafka)
    try:
        if is_subject(key):
            return current, decisions.record(kafka, key, value).answer
        return current, decisions.publish(kafka, key, value, expected).answer
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


class Shown(Protocol):
    """What can be shown as YAML."""

    def plain(self) -> Any:
        """As it is written in YAML."""


class Published(NamedTuple, Generic[T]):
    """What is in force for a key. `value` and `text`: the newest version that decodes, None when there is none; `name`:
    its epoch/offset, or that there is none; `newest`: what `publish` is to replace; `broken`: why a newer record is not
    in force."""

    value: T | None
    text: bytes
    name: str
    newest: int
    broken: str | None


def published(kafka: KafkaSettings, key: str, decode: Callable[[bytes], T]) -> Published[T]:
    """Read the log. Raises RetryableError."""
    wanted = {key.encode(), good_key(key).encode()}
    view = log.read(kafka, lambda found, _: found in wanted)
    good, record = decisions.newest_good(view, key, decode), view.get(key)
    newest = decisions.NO_VERSION if record is None else record.offset() or 0
    if good is None:
        return Published(None, b"", "nothing published", newest, None)
    return Published(good.value, good.text, f"{epoch(kafka)}/{good.offset}", newest, good.broken)


def replace(
    kafka: KafkaSettings, key: str, value: bytes, see: str, expected: int, show: Callable[[], Published[Any]]
) -> tuple[int, int]:
    """As `publish`, against the version whose difference was shown. Where another one was published meanwhile, `show`
    is called, which prints the difference from that one, and ChangedMeanwhileError names it and the command `see`."""
    try:
        return publish(kafka, key, value, see, expected)
    except decisions.ChangedMeanwhileError:
        click.echo("another version was published meanwhile; the difference from that one:", err=True)
        newest = show().name
    raise decisions.ChangedMeanwhileError(
        f"{key}: version {newest} was published meanwhile, so nothing was changed. `{see}` shows it; run this command"
        " again to replace it"
    )


def show_difference(old: Shown | None, new: Shown, current: Published[Any], source: str) -> bool:
    """Print what changes; False when nothing does. What was never published may be, though it is the default."""
    found = difference.lines(None if old is None else old.plain(), new.plain(), current.name, source)
    for line in found:
        click.echo(line)
    same = not found and current.value is not None and current.broken is None
    if same:
        click.echo(f"{current.name} says the same; nothing was published")
    return not same


def goes_on(dry_run: bool) -> bool:
    if dry_run:
        click.echo("nothing was published: --dry-run")
    return not dry_run


def epoch(kafka: KafkaSettings) -> int:
    """That of platform.control."""
    return topics.facts(kafka, CONTROL)[CONTROL].epoch
