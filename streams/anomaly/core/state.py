"""One partition as the frame sees it: a record in, perhaps one record for each topic out."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from runtime.columns.devices import NONE
from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.inband import InBand, News, key_of, version_of
from schemas import anomalies, incidents, ipc, readings
from schemas.control import Mark, is_mark, settings_key
from schemas.errors import ContractError
from schemas.headers import DerivedHeaders, number
from schemas.topics import ANOMALIES, INCIDENTS
from schemas.vocabulary import Kind
from streams.anomaly.core import outputs, watch
from streams.anomaly.core.parts import Parts, Seen
from streams.anomaly.core.plan import Plan
from streams.anomaly.detectors import Detectors, decode, default

log = logging.getLogger(__name__)
SETTINGS_KEY: Final = settings_key("anomaly")
_ANOMALIES: Final = f"{anomalies.NAME}/{anomalies.VERSION}"
_INCIDENTS: Final = f"{incidents.NAME}/{incidents.VERSION}"
_UNREADABLE: Final = "unreadable"


class State:
    """`changed`: devices of which the registry said something new since their rules were last looked up."""

    def __init__(self, parts: Parts | None = None) -> None:
        self.settings: InBand[Detectors] = InBand(SETTINGS_KEY, decode, default())
        self.mark_news = News()
        self.parts = Parts(Plan(self.settings.value)) if parts is None else parts
        self.changed: list[int] = []

    @property
    def seen(self) -> Seen:
        """What the last record was, for metrics."""
        return self.parts.seen

    def apply(self, record: Record) -> Sequence[Output]:
        """Take a record of telemetry.readings. Raises ContractError for a broken one."""
        self.parts.seen = Seen()
        if record.kind is Kind.CONTROL:
            self._control(record)
        else:
            self._settle()
            time_ms = number(record.headers, "time")
            if record.kind is Kind.TICK:
                watch.tick(self.parts, time_ms)
            else:
                self.parts.now_ms = max(self.parts.now_ms, time_ms)  # that of the last tick, also where we begin late
                watch.readings(self.parts, readings.read(record.headers, record.value))
        return self._outputs(record.kind)

    def _outputs(self, kind: Kind) -> list[Output]:
        """One record of each topic for each tick, for other records only if there are rows to write."""
        parts, found = self.parts, []
        for topic, schema, pending, batch in (
            (ANOMALIES, _ANOMALIES, parts.pending.anomalies, outputs.anomalies_batch),
            (INCIDENTS, _INCIDENTS, parts.pending.incidents, outputs.incidents_batch),
        ):
            value, size = b"", 0
            if len(pending):
                rows = batch(pending.take(), parts.pending, parts.table, parts.owners)
                value, size = ipc.encode(rows), rows.num_rows
            if size or kind is Kind.TICK:
                what = Kind.TICK if kind is Kind.TICK else Kind.DATA
                headers = DerivedHeaders(schema, what, parts.now_ms, size).encode()
                found.append(Output(topic, value, headers))
        return found

    # --- control

    def _control(self, record: Record) -> None:
        if self.settings.take(record):
            self._settle()
            watch.replan(self.parts, Plan(self.settings.value))
        elif is_mark(key_of(record)):
            if self.mark_news.take(record):
                self._mark(key_of(record), record.value)
        else:
            device = self.parts.registry.take(key_of(record), version_of(record), record.value)
            if device != NONE:
                self.changed.append(device)

    def _mark(self, key: str, value: bytes) -> None:
        try:
            outcome = self.parts.marks.take(Mark.decode(key, value))
        except ContractError as error:
            log.error("a mark was refused: %s", error)
            outcome = _UNREADABLE
        self.parts.seen.marks[outcome] += 1
        self.parts.harden()

    def _settle(self) -> None:
        """Look up the rules of changed devices again, all at once: a whole registry may arrive in one go."""
        if self.changed:
            changed, self.changed = self.changed, []
            watch.reclassify(self.parts, changed)

    # --- snapshots

    def freeze(self) -> Frozen:
        self._settle()
        meta, arrays = self.parts.freeze()
        own = {"settings": self.settings.stored(), "mark_news": self.mark_news.stored()}
        return Frozen(meta | own, arrays)

    @classmethod
    def restored(cls, stored: Frozen) -> "State":
        state, meta = cls(), stored.meta
        state.settings.restore(**meta["settings"])
        state.mark_news.restore(meta["mark_news"])
        state.parts = Parts.restored(Plan(state.settings.value), meta, stored.arrays)
        return state

    def sizes(self) -> Mapping[str, int]:
        return self.parts.sizes()
