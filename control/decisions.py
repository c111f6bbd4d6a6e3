"""Policies, settings of stages and marks: read what is in force, publish what comes next."""

from collections.abc import Callable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from control import log
from control.log import Change, NewDecision, View, Written
from runtime.errors import MillraceError
from runtime.settings import KafkaSettings
from schemas.control import Mark, device_of, good_key, is_mark, mark_key, read_device
from schemas.errors import ContractError

T = TypeVar("T")
ANY_VERSION: Final = -2
NO_VERSION: Final = -1


class ChangedMeanwhileError(MillraceError):
    """Another version was published since the caller read it."""


class InForce(NamedTuple, Generic[T]):
    """The newest version of a key that decodes. `offset`: where it is in `platform.control`. `broken`: why a newer
    record of the key is not in force, if there is one."""

    value: T
    text: bytes
    offset: int
    broken: str | None


def in_force(settings: KafkaSettings, key: str, decode: Callable[[bytes], T]) -> InForce[T] | None:
    """What readers in the stream have in force for a policy or settings; None when nothing was ever published, or
    nothing decodes. Raises RetryableError."""
    return newest_good(log.read(settings, _of(key)), key, decode)


def newest_good(view: View, key: str, decode: Callable[[bytes], T]) -> InForce[T] | None:
    """As `in_force`, of a view that has the key and its copy."""
    found = [message for message in (view.get(key), view.get(good_key(key))) if message is not None]
    broken: str | None = None
    for message in sorted(found, key=lambda one: one.offset() or 0, reverse=True):
        text = message.value()
        if text is None:
            continue
        try:
            return InForce(decode(text), text, message.offset() or 0, broken)
        except ContractError as error:
            broken = broken or str(error)
    return None


def publish(settings: KafkaSettings, key: str, value: bytes, expected: int = ANY_VERSION) -> Written[int]:
    """Put a checked policy, or settings, in force, and keep a copy beside it in the same transaction; the answer is the
    version's offset.

    `expected`: offset of the version that this one replaces (NO_VERSION: none); raises ChangedMeanwhileError when it is
    another one. Raises RetryableError.
    """

    def decide(view: View) -> Change[None]:
        current = view.get(key)
        found = NO_VERSION if current is None else current.offset() or 0
        if expected not in (ANY_VERSION, found):
            raise ChangedMeanwhileError(f"{key} was changed meanwhile: offset {found} where {expected} was expected")
        return Change([NewDecision(good_key(key), value), NewDecision(key, value)], None)

    written = log.change(settings, _of(key), decide)
    return Written(written.position - 1, written.position)


def record(settings: KafkaSettings, key: str, value: bytes) -> Written[int]:
    """Write a decision of which no copy is kept: a mark. The answer is its offset. Raises RetryableError."""
    written = log.change(settings, _of(key), lambda _: Change([NewDecision(key, value)], None))
    return Written(written.position - 1, written.position)


def broken_records(settings: KafkaSettings, most: int = 100) -> dict[str, str]:
    """Keys of devices and marks whose newest record cannot be read, and why; at most so many. Raises RetryableError."""
    found: dict[str, str] = {}

    def look(key: bytes, value: bytes | None) -> bool:
        name = key.decode("utf-8", "replace")
        why = _broken(name, value)
        if why is None:
            found.pop(name, None)
        elif len(found) < most or name in found:
            found[name] = why
        return False

    log.read(settings, look)
    return found


def _broken(key: str, value: bytes | None) -> str | None:
    if not value:
        return None
    if device_of(key) is not None:
        return read_device(key, value)[1]
    try:
        if is_mark(key):
            Mark.decode(key, value)
    except ContractError as error:
        return str(error)
    return None


def mark(settings: KafkaSettings, incident: str) -> Mark | None:
    """The last mark on an incident; None when there is none, or it cannot be read. Raises RetryableError."""
    key = mark_key(incident)
    message = log.read(settings, _of(key)).get(key)
    try:
        return None if message is None else Mark.decode(key, message.value() or b"")
    except ContractError:
        return None


def keep_copies(settings: KafkaSettings, decoders: Mapping[str, Callable[[bytes], object]]) -> list[str]:
    """Keep a copy of what older releases published under these keys, so that it stays in force if a broken record
    follows. Returns the keys whose copy was missing. Raises RetryableError."""

    def decide(view: View) -> Change[list[str]]:
        good = {key: newest_good(view, key, decode) for key, decode in decoders.items()}
        missing = {
            key: found.text for key, found in good.items() if found is not None and not _has_copy(view, key, found)
        }
        return Change([NewDecision(good_key(key), text) for key, text in missing.items()], sorted(missing))

    return log.change(settings, _of(*decoders), decide).answer


def _has_copy(view: View, key: str, found: InForce[object]) -> bool:
    copy = view.get(good_key(key))
    return copy is not None and copy.value() == found.text


def _of(*keys: str) -> log.Interest:
    wanted = {name.encode() for key in keys for name in (key, good_key(key))}
    return lambda found, _value: found in wanted
