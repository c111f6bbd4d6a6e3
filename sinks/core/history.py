"""Control records as rows: what was allowed, who was what, how stages were set and what operators said, from when."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa

from schemas import control, headers
from schemas.control import Mark
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
                kind, _, about = key.partition("/")
                table, row = _ROWS.get((kind, bool(about)), _no_row)(key, entry.value)
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
    """A record that cannot be read is a device in the state `unknown`, for the sink as for everybody."""
    device, _broken = control.read_device(key, value)
    row = {"device": device.id, "role": device.role, "state": device.state, "parent": device.parent}
    return "devices", row | {"labels": list(device.labels.items())}


def _no_row(_key: str, _value: bytes) -> tuple[str, Row]:
    return "", {}


_ROWS: Final[dict[tuple[str, bool], Callable[[str, bytes], tuple[str, Row]]]] = {
    ("policy", False): _policy,
    ("device", True): _device,
    ("settings", True): _settings,
    ("mark", True): _mark,
}
"""By the key's first word, and whether something follows it."""
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
