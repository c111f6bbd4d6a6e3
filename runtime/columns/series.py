"""Series of a partition, (device, channel, metric), to dense numbers, a whole batch at once.

The names of a batch are looked up once each, in its dictionaries; a row costs three gathers and one probe of an
table of 63-bit keys. Numbers are 0, 1, 2 … in order of appearance, row after row, whatever the cut of
the batches and the order within their dictionaries. Series are never forgotten: their number is bounded, for a device
and for a partition, and rows of a series beyond that have none.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.arrays import dense, positions
from runtime.columns.devices import DeviceTable
from runtime.columns.grouped import Grouped
from runtime.columns.growing import Words
from runtime.columns.keys import KeyTable
from runtime.columns.types import Bool, Int32, Int64

NONE: Final = -1
PER_DEVICE: Final = 1_000
PER_PARTITION: Final = 1_000_000
DEVICE_FULL: Final = "device_series"
"""Reason: the device has as many series as one may have."""
PARTITION_FULL: Final = "partition_series"
"""Reason: the partition has."""

_WORD_BITS: Final = 20
_DEVICE_BITS: Final = 63 - 2 * _WORD_BITS
_WORD: Final = (1 << _WORD_BITS) - 1


@dataclass(frozen=True, slots=True)
class Numbered:
    """`series`: int32[rows], number of each row's series, NONE where it was refused; `refused`: rows by reason."""

    series: Int32
    refused: Counter[str] = field(default_factory=Counter)


class SeriesTable:
    """`size` series; `devices` numbers their devices and may be shared with what else knows of devices."""

    def __init__(
        self,
        devices: DeviceTable | None = None,
        per_device: int = PER_DEVICE,
        per_partition: int = PER_PARTITION,
    ) -> None:
        if per_partition > 1 << _WORD_BITS:
            raise ValueError(f"a partition may hold at most {1 << _WORD_BITS} series, not {per_partition}")
        self.devices = DeviceTable() if devices is None else devices
        self.channels, self.metrics = Words(), Words()
        self.per_device, self.per_partition = per_device, per_partition
        self._table = KeyTable()
        self._of_device: Int32 = np.zeros(1024, np.int32)
        """Series of each device."""

    @property
    def size(self) -> int:
        return len(self._table)

    # --- numbers

    def number(self, batch: Any, rows: Int64 | None = None) -> Numbered:
        """Numbers of the rows (None: of all) of a batch of telemetry.readings; what is new gets one if there is room.

        Rows must be readings: device, channel and metric are not null (a null channel or metric counts as "").
        """
        device, channel, metric = (_Names(batch.column(name), rows) for name in ("device", "channel", "metric"))
        device.known = self.devices.find(device.words).astype(np.int64)
        channel.known, metric.known = self.channels.find(channel.words), self.metrics.find(metric.words)
        found = self._table.find(_keys(device, channel, metric))
        new = positions(found < 0)
        return Numbered(found, self._admit(found, new, device, channel, metric) if len(new) else Counter())

    def _admit(self, found: Int32, new: Int64, device: "_Names", channel: "_Names", metric: "_Names") -> Counter[str]:
        """Number what is new, in order of its first row. Returns the rows refused by reason."""
        for names in (device, channel, metric):
            names.narrow(new)
        combined = (device.codes * len(channel.words) + channel.codes) * len(metric.words) + metric.codes
        _, first, which = np.unique(combined, return_index=True, return_inverse=True)
        order = np.argsort(first)
        for names in (device, channel, metric):
            names.narrow(first[order])
        let_in, room = positions(self._fits(device)), self._room_left()
        full_from = len(new)
        if len(let_in) >= room:
            let_in = let_in[:room]
            full_from = int(first[order[let_in[-1]]]) if room else 0
        numbers = np.full(len(order), NONE, np.int32)
        numbers[order[let_in]] = self.size + np.arange(len(let_in))
        self._insert(let_in, device, channel, metric)
        found[new] = numbers[which]
        refused = positions(found[new] < 0)
        early = int(np.searchsorted(refused, full_from))
        return +Counter({DEVICE_FULL: early, PARTITION_FULL: len(refused) - early})

    def _fits(self, device: "_Names") -> Bool:
        """Of new series, in order, whether their devices may have one more each."""
        number, by_device = device.known[device.codes], Grouped(device.codes.astype(np.int32))
        before = np.where(number < 0, 0, self._of_device.take(number, mode="clip"))
        rank = np.empty(len(number), np.int64)
        rank[by_device.order] = by_device.rank
        fits: Bool = before + rank < self.per_device
        return fits

    def _room_left(self) -> int:
        if self.devices.size + self.per_partition > 1 << _DEVICE_BITS:
            return 0  # so many devices are registered that keys would run out of bits
        return max(0, self.per_partition - self.size)

    def _insert(self, let_in: Int64, device: "_Names", channel: "_Names", metric: "_Names") -> None:
        if not len(let_in):
            return
        for names, add in ((device, self.devices.add), (channel, self.channels.add), (metric, self.metrics.add)):
            names.narrow(let_in)
            names.learn(add)
        begin = self.size
        self._table.add(_keys(device, channel, metric))
        if self.devices.size > len(self._of_device):
            more = np.zeros(2 * self.devices.size - len(self._of_device), np.int32)
            self._of_device = np.concatenate([self._of_device, more])
        np.add.at(self._of_device, self.device_of(slice(begin, None)), 1)

    # --- names

    def device_of(self, numbers: Any) -> Int64:
        """Device number of each series."""
        found: Int64 = self._table.keys[numbers] >> 2 * _WORD_BITS
        return found

    def channel_of(self, numbers: Any) -> Int64:
        """Place of each series' channel in `channels`."""
        found: Int64 = self._table.keys[numbers] >> _WORD_BITS & _WORD
        return found

    def metric_of(self, numbers: Any) -> Int64:
        """Place of each series' metric in `metrics`."""
        found: Int64 = self._table.keys[numbers] & _WORD
        return found

    def find_one(self, device: str, channel: str, metric: str) -> int:
        """The number of one series, NONE where it is not there."""
        place = self.devices.find_one(device), self.channels.number(channel), self.metrics.number(metric)
        if min(place) < 0:
            return NONE
        key = place[0] << 2 * _WORD_BITS | place[1] << _WORD_BITS | place[2]
        return int(self._table.find(np.array([key], np.int64))[0])

    def name(self, number: int) -> tuple[str, str, str]:
        """(device, channel, metric) of a series."""
        device, channel, metric = (int(of(number)) for of in (self.device_of, self.channel_of, self.metric_of))
        return self.devices.name(device), self.channels.word(channel), self.metrics.word(metric)

    def columns(self, numbers: Any) -> tuple[Any, Any, Any]:
        """(device, channel, metric) of these series as dictionary columns, each with just the words it needs."""
        return (
            dictionary(self.device_of(numbers), self.devices.ids),
            dictionary(self.channel_of(numbers), self.channels.words),
            dictionary(self.metric_of(numbers), self.metrics.words),
        )

    # --- snapshots

    def freeze(self) -> dict[str, Any]:
        """Arrays that only grow at their end; views, without a copy. Devices without series are here too."""
        channel_ends, channels = self.channels.freeze()
        metric_ends, metrics = self.metrics.freeze()
        return {
            "series": self._table.keys,
            "devices": self.devices.words[: self.devices.size],
            "channel_ends": channel_ends,
            "channels": channels,
            "metric_ends": metric_ends,
            "metrics": metrics,
        }

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take what `freeze` gave for what is there."""
        self.devices.restore(arrays["devices"])
        self.channels.restore(arrays["channel_ends"], arrays["channels"])
        self.metrics.restore(arrays["metric_ends"], arrays["metrics"])
        self._table.restore(arrays["series"])
        self._of_device = np.bincount(arrays["series"] >> 2 * _WORD_BITS, minlength=1024).astype(np.int32)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, devices included."""
        return self._table.nbytes + self._of_device.nbytes + self.devices.nbytes


class _Names:
    """A dictionary column of a batch: its words, the code of each row, and the number of each word, NONE if it has
    none."""

    def __init__(self, column: Any, rows: Int64 | None) -> None:
        codes, self.words = column.indices, column.dictionary
        if codes.null_count:
            self.words = pa.concat_arrays([self.words, pa.array([""], pa.string())])
            codes = codes.fill_null(len(self.words) - 1)
        found = np.frombuffer(codes.buffers()[1], np.int32)[codes.offset : codes.offset + len(codes)]
        self.codes: Any = found if rows is None else found[rows]
        self.known: Int64 = np.zeros(0, np.int64)
        self._same: Int64 | None = None

    def narrow(self, rows: Int64) -> None:
        """Only these rows are left. A word that occurs twice in the dictionary has one code from now on."""
        if self._same is None:
            first: dict[str, int] = {}
            self._same = np.array([first.setdefault(w, i) for i, w in enumerate(self.words.to_pylist())])
        self.codes = self._same[self.codes[rows]]

    def learn(self, add: Callable[[str], int]) -> None:
        """Number the words of the rows that have no number, in order of the rows."""
        new = self.codes[self.known[self.codes] < 0]
        for code in dict.fromkeys(new.tolist()):
            self.known[code] = add(self.words[code].as_py())


def _keys(device: _Names, channel: _Names, metric: _Names) -> Int64:
    """Key of each row; negative where a word has no number: NONE has all bits set, which no key has."""
    found: Int64 = (device.known << 2 * _WORD_BITS).take(device.codes)
    found |= (channel.known << _WORD_BITS).take(channel.codes)
    found |= metric.known.take(metric.codes)
    return found


def dictionary(numbers: Int64, words: Any) -> Any:
    """The dictionary column of numbers; `words` makes a StringArray of some of them."""
    known, codes = dense(numbers)
    return pa.DictionaryArray.from_arrays(pa.array(codes), words(known))
