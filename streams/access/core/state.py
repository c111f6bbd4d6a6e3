"""All that access knows of one partition, and what it makes of each record."""

import logging
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.arrays import positions
from runtime.columns.devices import NONE, DeviceTable
from runtime.columns.spans import milliseconds
from runtime.columns.types import Int32
from runtime.errors import FatalError
from runtime.stage.bisect import bisect
from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.inband import InBand, key_of, version_of
from schemas import ipc, raw
from schemas.control import POLICY_KEY, device_of, read_device
from schemas.headers import Counts, ReadingsHeaders, Version, number
from schemas.readings import SCHEMA
from schemas.skips import RULE, declared
from schemas.topics import READINGS, is_device_id
from schemas.vocabulary import Kind, Transport
from streams.access.core import answer, events, rules
from streams.access.core.buckets import Buckets
from streams.access.core.judge import Judged, judge
from streams.access.core.registry import NO_PARENT, UNREGISTERED, DeviceRoles
from streams.access.core.replays import Replays
from streams.access.core.rules import NO_ROLE, Rules
from streams.access.core.sequence import Sequences
from streams.access.decode import Decoder
from streams.access.policy import decode

log = logging.getLogger(__name__)

MAX_UNREGISTERED: Final = 250_000
"""Devices of a partition above which one that nobody registered is denied and not remembered."""
_BUG_MESSAGES: Final = 16
_BUG_DEVICES: Final = 4
"""Every message of a record failing with the same error is a bug that hits all, from so many on, of so many devices.
Fewer may be what one device sends, which must not stop the others."""
_FULL: Final = "unknown_device: not in the registry, and this partition remembers no more devices"


@dataclass(slots=True)
class Seen:
    """What the last data record was, for metrics: `rules` counts denied and dead messages by rule, `received_ms` is
    when the bridge read the last message, `fallback` whether the decoder's batch path failed, `unreadable` rows of the
    platform's own that could not be read."""

    counts: Counts = field(default_factory=Counts)
    rules: Tally[str] = field(default_factory=Tally)
    received_ms: int = 0
    fallback: bool = False
    unreadable: int = 0


class State:
    """One partition. `decoder` learns shapes of payloads, shared by partitions; nothing of it is part of the state."""

    def __init__(self, decoder: Decoder, capacity: int = 1024) -> None:
        self.decoder = decoder
        self.seen = Seen()
        self.time_ms = 0
        self.devices = DeviceTable(capacity)
        self.registry = DeviceRoles(capacity)
        self.sequences = Sequences(capacity)
        self.buckets = Buckets(capacity)
        self.replays = Replays()
        self.policy = InBand(POLICY_KEY, lambda value: Rules(decode(value)), rules.nothing())
        self.rules: Rules = self.policy.value
        self._role_of: Int32 = self.registry.in_policy(self.rules)

    # --- records

    def apply(self, record: Record) -> Sequence[Output]:
        """The one record of telemetry.readings that answers this one. Raises ContractError for a broken record."""
        if record.skipped is not None:
            return [self._skipped(record, record.skipped)]
        if record.kind is Kind.DATA:
            return [self._data(raw.read(record.headers, record.value))]
        if record.kind is Kind.TICK:
            self.time_ms = max(self.time_ms, number(record.headers, "time"))
            return [Output(READINGS, b"", self._headers(Kind.TICK))]
        self._control(record)
        passed_on = tuple((key, record.headers[key]) for key in ("version", "key"))
        return [Output(READINGS, record.value, self._headers(Kind.CONTROL, control=passed_on))]

    def _skipped(self, record: Record, reason: str) -> Output:
        """The answer to a record that an operator skips: as many dead letters as its headers declare messages."""
        rows = declared(record.headers)
        counts = Counts(rows.messages, dead_letters=rows.messages, replayed=rows.replayed)
        self.seen = Seen(counts, Tally({RULE: rows.messages}))
        found = answer.skipped(rows.messages, self.time_ms, f"{RULE}: {reason}")
        return Output(READINGS, ipc.encode(found), self._headers(Kind.DATA, counts))

    def _headers(self, kind: Kind, counts: Counts | None = None, control: Any = ()) -> list[tuple[str, bytes]]:
        return ReadingsHeaders(kind, self.time_ms, counts or Counts(), control).encode()

    def _data(self, batch: Any) -> Output:
        messages, raw_rows = _messages(batch)
        self.seen = Seen()
        counts, found = self._judged(messages, raw_rows) if len(messages) else (Counts(), _EMPTY)
        if self.seen.rules["internal"] == counts.received >= _BUG_MESSAGES:
            _stop_if_same(found)
        if raw_rows is not None:
            platform, self.seen.unreadable = events.of_platform(batch, _others(len(batch), raw_rows))
            counts, found = replace(counts, events=counts.events + len(platform)), events.merged(found, platform)
        self.seen.counts = counts
        return Output(READINGS, ipc.encode(found), self._headers(Kind.DATA, counts))

    def _judged(self, batch: Any, raw_rows: Int32 | None) -> tuple[Counts, pa.RecordBatch]:
        """The answer to a batch. When that fails it is halved, down to the one message at fault: a bug must cost one
        message, not a partition."""
        rows = np.arange(len(batch), dtype=np.int32) if raw_rows is None else raw_rows

        def attempt(first: int, end: int) -> tuple[Counts, pa.RecordBatch]:
            whole = end - first == len(batch)
            return (
                self._tried(batch, raw_rows) if whole else self._tried(batch.slice(first, end - first), rows[first:end])
            )

        def refuse(row: int, error: Exception) -> tuple[Counts, pa.RecordBatch]:
            return self._unreadable(batch.slice(row, 1), int(rows[row]), error)

        parts = list(bisect(0, len(batch), attempt, refuse))
        if len(parts) == 1:
            return parts[0]
        every = pa.Table.from_batches([found for _, found in parts]).unify_dictionaries().combine_chunks()
        return reduce(_sum, (counts for counts, _ in parts)), (every.to_batches() or [_EMPTY])[0]

    def _tried(self, batch: Any, raw_rows: Int32 | None) -> tuple[Counts, pa.RecordBatch]:
        judged = judge(self, batch)
        column = batch.column("replay_of")
        counts = answer.counts(judged, len(column) - column.null_count)
        found = answer.build(batch, judged, raw_rows)
        if counts.events:
            found = events.merged(found, events.of_messages(batch, judged, raw_rows))
        self._remember(batch, judged)
        return counts, found

    def _remember(self, batch: Any, judged: Judged) -> None:
        self.sequences.commit(judged.sequences)
        self.buckets.commit(judged.buckets)
        self.replays.commit(judged.replayed)
        if judged.reason:
            self.seen.rules.update(reason.partition(":")[0] for reason in judged.reason.values())
        self.seen.received_ms = int(milliseconds(batch.column("received_at"))[-1])
        self.seen.fallback |= judged.decoded.fallback

    def _unreadable(self, message: Any, row: int, error: Exception) -> tuple[Counts, pa.RecordBatch]:
        first = not self.seen.rules["internal"]
        log.error("a message could not be processed: %r", error, exc_info=error if first else None)
        replayed = 1 - message.column("replay_of").null_count
        self.seen.rules["internal"] += 1
        reason = f"internal: {type(error).__name__}"
        return Counts(1, dead_letters=1, replayed=replayed), answer.unreadable(message, row, reason)

    # --- control

    def _control(self, record: Record) -> None:
        if self.policy.take(record):
            self._ruled()
            return
        key = key_of(record)
        device = device_of(key)
        if device is not None and is_device_id(device):
            self._take_device(device, key, version_of(record), record.value)

    def _ruled(self) -> None:
        """A policy has come into force."""
        self.rules = self.policy.value
        self._role_of = self.registry.in_policy(self.rules)

    def _take_device(self, device: str, key: str, version: Version, value: bytes) -> None:
        known = self.number(device)
        if not self.registry.is_news(known, version):
            return
        found, broken = read_device(key, value)
        if broken is not None:
            log.error(
                "invalid registry record, its device is denied until it is written again (see `millrace doctor`): %s",
                broken,
            )
        parent = NO_PARENT if found.parent is None else self.number(found.parent)
        self.registry.put(known, version, found, parent)
        self._role_of = self.registry.in_policy(self.rules)

    # --- devices

    def number(self, device: str) -> int:
        """The number of a device, new or known."""
        found = self.devices.find_one(device)
        return self._add(device) if found == NONE else found

    def numbers(self, ids: Any) -> Int32:
        """The number of each id; NONE where it is not a valid device id, or unknown and the table is full."""
        found = self.devices.find(ids)
        if (found == NONE).any():
            new = ids.filter(pa.array(found == NONE)).unique().to_pylist()
            for device in new:
                if is_device_id(device) and self.devices.size < MAX_UNREGISTERED:
                    self._add(device)
            found = self.devices.find(ids)
        return found

    def _add(self, device: str) -> int:
        found = self.devices.add(device)
        self._grow(len(self.devices.words))
        return found

    def _grow(self, capacity: int) -> None:
        if capacity > len(self.registry.role):
            for part in (self.registry, self.sequences, self.buckets):
                part.grow(capacity)

    def roles(self, numbers: Int32) -> Int32:
        """The role of the policy that each device has now; NO_ROLE also for NONE."""
        if numbers.min(initial=0) >= 0:
            return self._role_of.take(self.registry.place(self.registry.role.take(numbers)))
        known = np.where(numbers >= 0, self.registry.role[numbers], np.int32(UNREGISTERED))
        roles = self._role_of[self.registry.place(known)]
        return np.where(numbers >= 0, roles, NO_ROLE).astype(np.int32)

    def why_no_role(self, device: int) -> str:
        if self.policy.text is None:
            return "unknown_device: no policy is in force yet"
        return _FULL if device == NONE else self.registry.why_no_role(device)

    # --- snapshots

    def freeze(self) -> Frozen:
        size, sequences = self.devices.size, self.sequences
        keys = sorted(sequences.kept)
        kept = [sequences.kept[key] for key in keys]
        origins = sorted(self.replays.rows)
        meta = {
            "time_ms": self.time_ms,
            "policy": self.policy.text,
            "policy_version": [self.policy.version.epoch, self.policy.version.offset],
            "policies_refused": self.policy.refused,
            "words": self.registry.words,
            "replays": [[*origin, len(self.replays.rows[origin])] for origin in origins],
        }
        registry = self.registry
        arrays = {
            "devices": self.devices.stored(),
            "role": registry.role[:size],
            "parent": registry.parent[:size],
            "epoch": registry.epoch[:size],
            "offset": registry.offset[:size],
            "boots": sequences.boots[:size],
            "highest": sequences.highest[:size],
            "full_us": self.buckets.full_us[:size],
            "kept_keys": np.array(keys, np.int64),
            "kept_sizes": np.array([len(k) for k in kept], np.int64),
            "kept": np.frombuffer(b"".join(kept), np.uint8),
            "replays": np.concatenate([self.replays.rows[o] for o in origins] or [np.zeros(0, np.int64)]),
        }
        return Frozen(meta, arrays)

    @classmethod
    def restored(cls, decoder: Decoder, stored: Frozen) -> "State":
        state, meta, arrays = cls(decoder), stored.meta, stored.arrays
        size = len(arrays["devices"])
        state.devices.restore(arrays["devices"])
        state._grow(len(state.devices.words))
        state.registry.words = list(meta["words"])
        for name, column in (
            *((name, getattr(state.registry, name)) for name in ("role", "parent", "epoch", "offset")),
            ("boots", state.sequences.boots),
            ("highest", state.sequences.highest),
            ("full_us", state.buckets.full_us),
        ):
            column[:size] = arrays[name]
        state.registry.restored()
        state.sequences.keep(arrays["kept_keys"], arrays["kept_sizes"], arrays["kept"].tobytes())
        at = 0
        for epoch, partition, count in meta["replays"]:
            state.replays.rows[epoch, partition] = arrays["replays"][at : at + count]
            at += count
        state.time_ms = meta["time_ms"]
        state.policy.restore(meta["policy"], meta["policy_version"], meta["policies_refused"])
        state._ruled()
        return state

    def sizes(self) -> dict[str, int]:
        registry, sequences = self.registry, self.sequences
        arrays = (registry.role, registry.parent, registry.epoch, registry.offset, sequences.boots, sequences.highest)
        return {
            "devices": self.devices.size,
            "registered": int((registry.epoch[: self.devices.size] >= 0).sum()),
            "gaps": len(sequences.kept),
            "replays": self.replays.count,
            "bytes": sum(a.nbytes for a in arrays) + self.devices.words.nbytes + sequences.kept_bytes,
        }


_PLATFORM: Final = int(Transport.PLATFORM)
_EMPTY: Final = pa.RecordBatch.from_pylist([], schema=SCHEMA)


def _messages(batch: Any) -> tuple[Any, Int32 | None]:
    """(rows that devices sent, their rows in the raw record or None for the same). Platform rows are no messages."""
    column = batch.column("transport")
    if not len(column):
        return batch, None
    transport = np.frombuffer(column.buffers()[1], np.uint8)[column.offset :][: len(column)]
    own = transport != _PLATFORM
    if own.all():
        return batch, None
    return batch.filter(pa.array(own)), positions(own).astype(np.int32)


def _others(rows: int, chosen: Int32) -> Int32:
    """The rows that are not chosen."""
    other = np.ones(rows, bool)
    other[chosen] = False
    found: Int32 = positions(other).astype(np.int32)
    return found


def _stop_if_same(found: pa.RecordBatch) -> None:
    """`found` answers messages that all failed. One reason for all, from several devices, is no fault of theirs: raise
    FatalError, since going on would empty the topic into the dead letters."""
    reasons = found.column("reason").unique()
    if len(reasons) == 1 and len(found.column("publisher").unique()) >= _BUG_DEVICES:
        raise FatalError(
            f"all {len(found)} messages of a record failed with {reasons[0].as_py()!r}: a bug of access. Nothing"
            " of it was written; the error logged above has the traceback. Roll back to the previous version, or fix it"
        )


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(*(getattr(one, f) + getattr(other, f) for f in Counts.__slots__))
