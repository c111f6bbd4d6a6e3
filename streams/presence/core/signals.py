"""Which devices sent messages in a record of telemetry.readings, and which were reported to connect or disconnect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Bytes, Int32, Int64
from schemas.headers import number
from schemas.vocabulary import Verdict
from streams.presence.core.devices import Is, Why

COLUMNS: Final = ("verdict", "device", "publisher", "metric", "received_at", "replay_of")
"""Of schemas.readings.SCHEMA, which are looked at."""
CAME_AND_WENT: Final[dict[str, tuple[Is, Why]]] = {
    "connected": (Is.ONLINE, Why.CONNECTED),
    "disconnected": (Is.OFFLINE, Why.DISCONNECTED),
    "event/offline": (Is.OFFLINE, Why.WILL),
}
"""Event rows, by metric, that are no messages of the device. All others are: `config`, `reply/17` …"""


_ROWS: Final[Int64] = np.arange(4_096)


class Coded:
    """A dictionary column: `words` a StringArray without repeats, `codes` the word of each row."""

    def __init__(self, column: Any) -> None:
        self.words = column.dictionary
        self.codes: Int32 = column.indices.to_numpy()

    def last(self, rows: Int64 | None) -> Int64:
        """int64[words]: of each word the last of these rows (None: all; ascending) that has it, -1 without."""
        found: Int64 = np.full(len(self.words), -1, np.int64)
        if rows is None:
            found[self.codes] = (
                _ROWS[: len(self.codes)] if len(self.codes) <= len(_ROWS) else np.arange(len(self.codes))
            )
        else:
            found[self.codes[rows]] = rows
        return found


@dataclass(frozen=True, slots=True)
class Signals:
    """Rows of a record by their meaning; int64 row numbers, ascending.

    spoke     accepted messages: their device and publisher are online; None: all rows
    refused   denied messages and dead letters: only their publisher is online
    reported  the platform, or a will, reports that the device connected or disconnected: `state` and `why` of each

    `publisher` is None where every device is its own publisher.
    """

    device: Coded
    publisher: Coded | None
    spoke: Int64 | None
    refused: Int64
    reported: Int64
    state: Bytes
    why: Bytes


_NO_ROWS: Final[Int64] = np.zeros(0, np.int64)
_NO_CODES: Final[Bytes] = np.zeros(0, np.uint8)


def read(batch: Any, counts: Mapping[str, bytes]) -> Signals:
    """`batch`: COLUMNS, at least one row; `counts`: headers of its record.

    Replayed rows say what was once, not what is: they are left out.
    """
    by, own = batch.column("publisher"), batch.column("device")
    device, publisher = Coded(own), None if own.equals(by) else Coded(by)
    replayed = batch.column("replay_of")
    fresh = None if replayed.null_count == len(replayed) else ~replayed.is_valid().to_numpy(zero_copy_only=False)
    events, refusals = number(counts, "events") if "events" in counts else 0, _refusals(counts)
    if fresh is None and not events and not refusals:
        return Signals(device, publisher, None, _NO_ROWS, _NO_ROWS, _NO_CODES, _NO_CODES)
    verdict = batch.column("verdict").to_numpy()
    state, why = _reported(batch.column("metric"), verdict) if events else (np.zeros(len(verdict), np.uint8),) * 2
    speech = (verdict == Verdict.ACCEPTED) | ((verdict == Verdict.EVENT) & (state == Is.NEW))
    reported, refused = state != Is.NEW, (verdict == Verdict.DENIED) | (verdict == Verdict.DEAD_LETTER)
    spoke, refused, reported = (_rows(mask, fresh) for mask in (speech, refused, reported))
    return Signals(device, publisher, spoke, refused, reported, state[reported], why[reported])


def _refusals(counts: Mapping[str, bytes]) -> int:
    return number(counts, "denied") + number(counts, "dead_letters")


def _reported(metric: Any, verdict: Bytes) -> tuple[Bytes, Bytes]:
    """Of each row (state, why) that it reports; (NEW, …) where it reports none."""
    words = [CAME_AND_WENT.get(word, (Is.NEW, Why.TELEMETRY)) for word in metric.dictionary.to_pylist()]
    of_word = np.array([*words, (Is.NEW, Why.TELEMETRY)], np.uint8)
    codes = metric.indices.fill_null(len(words)).to_numpy()
    codes = np.where(verdict == Verdict.EVENT, codes, len(words))
    return of_word[codes, 0], of_word[codes, 1]


def _rows(mask: Bool, fresh: Bool | None) -> Int64:
    found: Int64 = positions(mask if fresh is None else mask & fresh)
    return found
