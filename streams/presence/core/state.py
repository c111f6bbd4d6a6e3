"""All that presence knows of one partition, and what it makes of each record."""

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np

from runtime.columns.spans import milliseconds
from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.inband import InBand, News, key_of
from schemas import ipc, presence, readings
from schemas.control import REMOVED, UNKNOWN, device_of, read_device, settings_key
from schemas.headers import DerivedHeaders, number
from schemas.topics import PRESENCE
from schemas.vocabulary import Kind
from streams.presence.core import rows, signals
from streams.presence.core.devices import Is
from streams.presence.core.watch import Watch
from streams.presence.rules import decode, default

log = logging.getLogger(__name__)

SETTINGS: Final = settings_key("presence")
_WANTED: Final = ipc.Columns(readings.SCHEMA, signals.COLUMNS)
_SCHEMA: Final = f"{presence.NAME}/{presence.VERSION}"


class State:
    """One partition. For metrics: `changes`, which the last record caused, and `newly_refused`, whether it was a
    control record that could not be read."""

    def __init__(self) -> None:
        self.settings = InBand(SETTINGS, decode, default())
        self.registry = News()
        self.refused = 0
        """Registry records that could not be read."""
        self.watch = Watch(self.settings.value)
        self.changes: rows.Changes | None = None
        self.newly_refused = 0

    @property
    def refusals(self) -> int:
        """Records in band that could not be read."""
        return self.refused + self.settings.refused

    # --- records

    def apply(self, record: Record) -> Sequence[Output]:
        """One record for each tick; for another record one where there are rows to write."""
        refused = self.refusals
        self.changes = changes = self._take(record)
        self.newly_refused = self.refusals - refused
        if changes is None and record.kind is not Kind.TICK:
            return []
        time_ms = self.watch.time_ms
        value = b"" if changes is None else ipc.encode(rows.batch(changes, time_ms, self.watch.devices.table.ids))
        count = 0 if changes is None else len(changes.device)
        return [Output(PRESENCE, value, DerivedHeaders(_SCHEMA, record.kind, time_ms, count).encode())]

    def _take(self, record: Record) -> rows.Changes | None:
        if record.kind is Kind.TICK:
            return self.watch.tick(number(record.headers, "time"))
        if record.kind is Kind.CONTROL:
            return self._control(record)
        batch = readings.read(record.headers, record.value, _WANTED)
        if not len(batch):
            return None
        return self.watch.take(signals.read(batch, record.headers), milliseconds(batch.column("received_at")))

    # --- control

    def _control(self, record: Record) -> rows.Changes | None:
        if self.settings.take(record):
            self.watch.set_rules(self.settings.value)
            return None
        key = key_of(record)
        device = device_of(key)
        if device is None or not self.registry.take(record):
            return None
        found, broken = read_device(key, record.value)
        if broken is not None:
            self.refused += 1
            log.error("a registry record is ignored, it cannot be decoded: %s", broken)
        if found.state == UNKNOWN:  # its owner is unknown too: what is stored of it stays
            return None
        return self.watch.remove(device, None if found.state == REMOVED else found.parent or device)

    # --- snapshots

    def freeze(self) -> Frozen:
        meta = {
            "time_ms": self.watch.time_ms,
            "clock": self.watch.clock,
            "untracked": self.watch.devices.untracked,
            "settings": self.settings.stored(),
            "registry": self.registry.stored(),
            "refused": self.refused,
        }
        return Frozen(meta, self.watch.devices.arrays())

    @classmethod
    def restored(cls, stored: Frozen) -> "State":
        state, meta = cls(), stored.meta
        state.settings.restore(**meta["settings"])
        state.registry.restore(meta["registry"])
        state.refused = meta["refused"]
        watch = state.watch = Watch(state.settings.value)
        watch.time_ms, watch.clock = meta["time_ms"], meta["clock"]
        watch.devices.restore(dict(stored.arrays))
        watch.devices.untracked = meta["untracked"]
        return state

    def sizes(self) -> dict[str, int]:
        devices = self.watch.devices
        written = devices.columns.told[: devices.size]
        return {
            "devices": devices.watched,
            "online": int(np.count_nonzero(written == Is.ONLINE)),
            "held": len(devices.held),
            "untracked": devices.untracked,
            "bytes": devices.nbytes,
        }
