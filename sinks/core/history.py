"""Control records as rows: what was allowed, who was what, how stages were set and what operators said, from when."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
import pyarrow as pa

from schemas import control, headers
from schemas.control import Device, Mark
from schemas.errors import ContractError
from schemas.vocabulary import Kind
from sinks.core.flow import Range
from sinks.core.records import Contract, Entry

Row = dict[str, Any]


def history(part: Range) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each table of history that a range of telemetry.readings has rows for."""
    found: dict[str, list[Row]] = {}
    for entry in part.entries:
        if entry.kind is Kind.CONTROL:
            with Contract(part.where, entry.offset):
                key = entry.found.get("key", b"").decode("utf-8", "replace")
                table, row = _ROWS.get(key.split("/", 1)[0], _no_row)(key, entry.value)
                if table:
                    found.setdefault(table, []).append(_control_row(part, entry) | row)
    for table, rows in found.items():
        yield table, pa.Table.from_pylist(rows, schema=pa.schema([*_CONTROL, *_COLUMNS[table]]))


def _control_row(part: Range, entry: Entry) -> Row:
    version = headers.Version.parse(entry.found.get("version", b""))
    return {
        "version_epoch": version.epoch,
        "version_offset": version.offset,
        "raw_epoch": entry.origin.epoch,
        "raw_partition": part.partition,
        "raw_offset": entry.origin.src,
        "time": entry.time_ms,
        "append_time": entry.appended_ms,
    }


def _policy(_key: str, value: bytes) -> tuple[str, Row]:
    return "policies", {"policy": value.decode("utf-8", "replace")}


def _settings(key: str, value: bytes) -> tuple[str, Row]:
    return "stage_settings", {"stage": key.split("/", 1)[1], "settings": value.decode("utf-8", "replace")}


def _mark(key: str, value: bytes) -> tuple[str, Row]:
    """One that was taken back, or that nobody can read, says nothing."""
    row: Row = {"incident": key.split("/", 1)[1], "mark": "", "said_at": None, "said": value.decode("utf-8", "replace")}
    try:
        mark = Mark.decode(key, value)
    except ContractError:
        return "incident_marks", row
    return "incident_marks", row | {"mark": mark.mark, "said_at": mark.at_ms}


def _device(key: str, value: bytes) -> tuple[str, Row]:
    gone: Row = {"device": control.device_of(key), "role": "", "state": "removed", "parent": None, "labels": []}
    if not value:
        return "devices", gone
    device = Device.decode(key, value)
    labels = [(str(k), v if isinstance(v, str) else orjson.dumps(v).decode()) for k, v in device.labels.items()]
    row = {"device": device.id, "role": device.role, "state": device.state, "parent": device.parent, "labels": labels}
    return "devices", row


def _no_row(_key: str, _value: bytes) -> tuple[str, Row]:
    return "", {}


_ROWS: Final[dict[str, Callable[[str, bytes], tuple[str, Row]]]] = {
    "policy": _policy,
    "device": _device,
    "settings": _settings,
    "mark": _mark,
}
"""By the key's first word."""
_MS: Final = pa.timestamp("ms", "UTC")
_CONTROL: Final = [
    ("version_epoch", pa.uint16()),
    ("version_offset", pa.uint64()),
    ("raw_epoch", pa.uint16()),
    ("raw_partition", pa.uint16()),
    ("raw_offset", pa.uint64()),
    ("time", _MS),
    ("append_time", _MS),
]
_COLUMNS: Final = {
    "policies": [("policy", pa.string())],
    "devices": [
        ("device", pa.string()),
        ("role", pa.string()),
        ("state", pa.string()),
        ("parent", pa.string()),
        ("labels", pa.map_(pa.string(), pa.string())),
    ],
    "stage_settings": [("stage", pa.string()), ("settings", pa.string())],
    "incident_marks": [("incident", pa.string()), ("mark", pa.string()), ("said_at", _MS), ("said", pa.string())],
}
