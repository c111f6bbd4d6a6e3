"""What operators decide, as a state keeps it: the newest settings in force, and marks that count once. Pure.

Control records reach every stage in band, with headers `version` and `key` (schemas/control.py). The relay may send
them again, and a zombie of it older ones late: what is not newer than what was taken changes nothing.

    self.settings = InBand(settings_key("aggregate"), decode_settings, initial=Settings())
    self.marks = News()
    ...
    if record.kind is Kind.CONTROL:
        if self.settings.take(record):
            self.rebuild(self.settings.value)
        elif is_mark(key_of(record)) and self.marks.take(record):
            ...
    ...
    meta = {"settings": self.settings.stored(), "marks": self.marks.stored()}       # of the snapshot
    state.settings.restore(**meta["settings"])
"""

import logging
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from runtime.stage.contract import Record
from schemas.control import good_key
from schemas.errors import ContractError
from schemas.headers import Version

log = logging.getLogger(__name__)
NEVER: Final = Version(-1, -1)
T = TypeVar("T")


def key_of(record: Record) -> str:
    """What a control record is about; "" where it does not say."""
    return record.headers.get("key", b"").decode("utf-8", "replace")


def version_of(record: Record) -> Version:
    """Raises ContractError where a control record has none."""
    return Version.parse(record.headers.get("version", b""))


class News:
    """Distinguishes new control records of a family from repeats and late older ones: every partition is sent
    all of a family in the order of their versions, so what is not above the highest was there before."""

    def __init__(self) -> None:
        self.version = NEVER

    def take(self, record: Record) -> bool:
        """Whether the record is new; it is then taken."""
        version = version_of(record)
        if version <= self.version:
            return False
        self.version = version
        return True

    def stored(self) -> list[int]:
        """For a snapshot's meta."""
        return [self.version.epoch, self.version.offset]

    def restore(self, stored: list[int]) -> None:
        self.version = Version(*stored)


class InBand(Generic[T]):
    """The value of one control key that is in force. `decode` makes it of the record's bytes and raises ContractError
    when it cannot; such a record changes nothing but `refused`, a count. `initial` holds before the first.

    Records of `good/{key}` count like those of the key: a reader that starts after compaction, when the newest record
    of the key is broken, finds the last good version there.
    """

    def __init__(self, key: str, decode: Callable[[bytes], T], initial: T) -> None:
        self.key, self.value = key, initial
        self.text: str | None = None
        """The value's bytes as they came; None while the initial one is in force."""
        self.refused = 0
        self._copy = good_key(key)
        self._decode = decode
        self._news = News()

    @property
    def version(self) -> Version:
        """Of the last record taken or refused."""
        return self._news.version

    def take(self, record: Record) -> bool:
        """Whether this control record has put a new value in force. Raises ContractError where it has no version."""
        key = key_of(record)
        if key not in (self.key, self._copy) or not self._news.take(record):
            return False
        if key == self._copy and self.text is not None and record.value == self.text.encode():
            return False
        try:
            self._put(record.value)
        except ContractError as error:
            self.refused += 1
            log.error("%s: rejected, the previous value stays in force: %s", self.key, str(error).partition("\n")[0])
            return False
        return True

    def _put(self, value: bytes) -> None:
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise ContractError(f"control record {self.key!r} is not UTF-8: {error}") from None
        self.value, self.text = self._decode(value), text

    def stored(self) -> dict[str, Any]:
        """For a snapshot's meta."""
        return {"text": self.text, "version": self._news.stored(), "refused": self.refused}

    def restore(self, text: str | None, version: list[int], refused: int) -> None:
        """Put in force again what was. Raises ContractError when this version of the stage cannot read it any more."""
        if text is not None:
            self._put(text.encode())
        self._news.restore(version)
        self.refused = refused
