"""Output rows of telemetry.anomalies and telemetry.incidents. They are buffered as numbers (runtime/stage/cursor.py);
names, ids and explanations are filled in when a record is written."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.growing import Words
from runtime.columns.series import SeriesTable, dictionary
from runtime.columns.types import Bool
from runtime.stage.cursor import Pending
from schemas import anomalies, incidents
from schemas.aggregates import DEVICE
from schemas.vocabulary import IncidentState
from streams.anomaly.core import ids
from streams.anomaly.core.explain import explain, explain_shift
from streams.anomaly.core.owners import Owners

GROUP: Final = -1
"""`series` of a row about a group."""

ANOMALY: Final[dict[str, Any]] = {
    "incident": "u8",
    "detector": "i4",
    "slot": "u1",
    "severity": "u1",
    "series": "i4",
    "time_ms": "i8",
    "received_ms": "i8",
    "value": "f8",
    "score": "f8",
    "low": "f8",
    "high": "f8",
    "facts": ("f8", (3,)),
    "raw_row": "i4",
    "reading_index": "i4",
}
"""Columns of pending rows of telemetry.anomalies. `detector`: index of its name in `words`; NaN, raw_row -1: none."""

INCIDENT: Final[dict[str, Any]] = {
    "incident": "u8",
    "event": "u1",
    "detector": "i4",
    "slot": "u1",
    "severity": "u1",
    "series": "i4",
    "time_ms": "i8",
    "opened_ms": "i8",
    "peak_ms": "i8",
    "last_ms": "i8",
    "closed_ms": "i8",
    "peak_value": "f8",
    "peak_score": "f8",
    "low": "f8",
    "high": "f8",
    "facts": ("f8", (3,)),
    "points": "i8",
    "devices": "i8",
    "part_of": "u8",
    "scope": "i4",
    "subject": "i4",
    "channel": "i4",
    "metric": "i4",
    "members": "i8",
    "within_ms": "i8",
    "worst": "i4",
}
"""Columns of pending rows of telemetry.incidents. From `scope` on only for groups: indices in `words`, and codes
of the series table (-1: none); `worst`: series of the worst point, -1 when there is none. `part_of` 0: of no other."""

_SINGLE: Final = {"scope": 0, "subject": 0, "channel": -1, "metric": -1, "members": 0, "within_ms": 0, "worst": -1}
_STATES: Final = pa.array([str(state) for state in IncidentState])
_MS: Final = pa.timestamp("ms", "UTC")


class PendingRows:
    """Rows that are not written yet, and the words they refer to. Names of stored arrays keep the prefix `told_`."""

    def __init__(self) -> None:
        self.anomalies, self.incidents = Pending(ANOMALY), Pending(INCIDENT)
        self.words = Words()

    def strange(self, rows: dict[str, Any]) -> None:
        """Columns of ANOMALY, of any number type."""
        self.anomalies.add(_typed(ANOMALY, rows))

    def changed(self, rows: dict[str, Any]) -> None:
        """Columns of INCIDENT; those of groups may be left out."""
        size = len(rows["incident"])
        more = {name: np.full(size, value) for name, value in _SINGLE.items() if name not in rows}
        self.incidents.add(_typed(INCIDENT, {**rows, **more}))

    def arrays(self) -> dict[str, Any]:
        """For a snapshot."""
        ends, body = self.words.freeze()
        found = {"told_word_ends": ends, "told_words": body}
        for name, pending in (("anomaly", self.anomalies), ("incident", self.incidents)):
            found |= {f"told_{name}_{column}": array for column, array in pending.arrays().items()}
        return found

    def restore(self, arrays: Mapping[str, Any]) -> None:
        self.words.restore(arrays["told_word_ends"], arrays["told_words"])
        for name, pending in (("anomaly", self.anomalies), ("incident", self.incidents)):
            pending.restore({column: arrays[f"told_{name}_{column}"] for column in pending.columns})


def _typed(columns: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    kinds = {name: np.dtype(kind).base for name, kind in columns.items()}
    return {name: np.ascontiguousarray(rows[name], kind) for name, kind in kinds.items()}


def anomalies_batch(rows: dict[str, Any], pending: PendingRows, table: SeriesTable, owners: Owners) -> pa.RecordBatch:
    """The batch (schemas.anomalies.SCHEMA) of pending rows."""
    series = rows["series"]
    device, channel, metric = table.columns(series)
    columns = {
        "incident": _ids(rows["incident"]),
        "detector": dictionary(rows["detector"].astype(np.int64), pending.words.words),
        "device": device,
        "publisher": dictionary(owners.publisher[table.device_of(series)].astype(np.int64), table.devices.ids),
        "channel": channel,
        "metric": metric,
        "time": _times(rows["time_ms"]),
        "received_at": _times(rows["received_ms"]),
        "value": _known(rows["value"]),
        "score": pa.array(rows["score"]),
        "low": _known(rows["low"]),
        "high": _known(rows["high"]),
        "severity": pa.array(rows["severity"]),
        "explanation": pa.array(_explained(rows, rows["value"])),
        "raw_row": pa.array(rows["raw_row"], mask=rows["raw_row"] < 0),
        "reading_index": pa.array(rows["reading_index"], mask=rows["raw_row"] < 0),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in anomalies.SCHEMA], schema=anomalies.SCHEMA)


def incidents_batch(rows: dict[str, Any], pending: PendingRows, table: SeriesTable, owners: Owners) -> pa.RecordBatch:
    """The batch (schemas.incidents.SCHEMA) of pending rows."""
    single = rows["series"] != GROUP
    words = pending.words
    names = [_names(rows, i, table, words) for i in range(len(single))]
    device_of = table.device_of(np.where(single, rows["series"], 0)) if table.size else np.zeros(len(single), np.int64)
    publishers = table.devices.ids(owners.publisher[device_of]).to_pylist() if len(owners.publisher) else []
    columns = {
        "incident": _ids(rows["incident"]),
        "state": pa.DictionaryArray.from_arrays(pa.array(rows["event"].astype(np.int32)), _STATES),
        "detector": dictionary(rows["detector"].astype(np.int64), words.words),
        "publisher": pa.array([p if one else None for p, one in zip(publishers, single, strict=True)], pa.string()),
        "time": _times(rows["time_ms"]),
        "opened_at": _times(rows["opened_ms"]),
        "peak_at": _times(rows["peak_ms"]),
        "last_at": _times(rows["last_ms"]),
        "closed_at": _times(rows["closed_ms"], rows["closed_ms"] < 0),
        "peak_value": _known(rows["peak_value"]),
        "peak_score": pa.array(rows["peak_score"]),
        "low": _known(rows["low"]),
        "high": _known(rows["high"]),
        "points": pa.array(rows["points"]),
        "devices": pa.array(rows["devices"]),
        "severity": pa.array(rows["severity"]),
        "explanation": pa.array(_explanations(rows, names, table)),
    }
    for k, name in enumerate(("scope", "device", "channel", "metric")):
        columns[name] = pa.array([one[k] for one in names], pa.string())
    made = [columns[f.name].cast(f.type) for f in incidents.SCHEMA]
    return pa.RecordBatch.from_arrays(made, schema=incidents.SCHEMA)


def _names(rows: dict[str, Any], i: int, table: SeriesTable, words: Words) -> tuple[str, str, str, str]:
    """scope, device or value of the group, channel, metric."""
    series = int(rows["series"][i])
    if series != GROUP:
        return (DEVICE, *table.name(series))
    channel, metric = int(rows["channel"][i]), int(rows["metric"][i])
    return (
        words.word(int(rows["scope"][i])),
        words.word(int(rows["subject"][i])),
        table.channels.word(channel) if channel >= 0 else "",
        table.metrics.word(metric) if metric >= 0 else "",
    )


def _explanations(rows: dict[str, Any], names: list[tuple[str, str, str, str]], table: SeriesTable) -> list[str]:
    found = []
    for i, (scope, subject, _, metric) in enumerate(names):
        if rows["series"][i] == GROUP:
            text = explain_shift(
                rows["devices"][i], rows["members"][i], scope, subject, metric, float(rows["within_ms"][i])
            )
            worst = int(rows["worst"][i])
            text += f"; {table.name(worst)[0]}: {_one(rows, i, rows['peak_value'])}" if worst >= 0 else ""
        else:
            text = _one(rows, i, rows["peak_value"])
        part = int(rows["part_of"][i])
        found.append(f"part of incident {ids.text(part)}; {text}" if part else text)
    return found


def _explained(rows: dict[str, Any], value: Any) -> list[str]:
    return [_one(rows, i, value) for i in range(len(value))]


def _one(rows: dict[str, Any], i: int, value: Any) -> str:
    low, high, facts = float(rows["low"][i]), float(rows["high"][i]), rows["facts"][i].tolist()
    return explain(int(rows["slot"][i]), float(value[i]), low, high, facts)


def _ids(numbers: Any) -> Any:
    return pa.array([ids.text(number) for number in numbers.tolist()], pa.string())


def _times(ms: Any, absent: Bool | None = None) -> Any:
    return pa.array(ms, mask=absent).cast(_MS)


def _known(values: Any) -> Any:
    """Null where there is none; what is infinite stays."""
    return pa.array(values, mask=np.isnan(values))
