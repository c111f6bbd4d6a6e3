"""Kafka records as lines of JSON: each row of a data record one line, control records and ticks one line each."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from schemas import raw, readings
from schemas.errors import ContractError
from schemas.headers import Headers, kind_of, table
from schemas.topics import RAW, READINGS
from schemas.vocabulary import Kind, Transport, Verdict

_READERS: Final = {RAW: raw.read, READINGS: readings.read}
_CODES: Final[Mapping[str, type[Verdict] | type[Transport]]] = {"verdict": Verdict, "transport": Transport}


def lines(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    headers: Headers,
    value: bytes | None,
    with_all: bool = True,
) -> Iterator[dict[str, Any]]:
    """What stands in one record. Without `with_all` only the rows of data records.

    A record that this version cannot read becomes one line with `error`.
    """
    where = {"partition": partition, "offset": offset}
    try:
        found = table(headers)
        if topic not in _READERS:
            yield where | _plain(key, found, value)
            return
        kind = kind_of(found)
        if kind is Kind.DATA:
            rows = _READERS[topic](found, value or b"").to_pylist()
            yield from (where | {"row": number} | row_of(row) for number, row in enumerate(rows))
        elif with_all:
            yield where | {"kind": str(kind)} | _plain(None, found, value or b"")
    except ContractError as error:
        yield where | {"error": str(error)}


def row_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON: codes by name, bytes as text where they are UTF-8, else as `NAME_base64`; nulls left out."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name in _CODES:
            out[name] = _CODES[name](value).name.lower()
        elif isinstance(value, bytes):
            out |= text_of(name, value)
        elif value is not None:
            out[name] = value
    return out


def text_of(name: str, value: bytes) -> dict[str, str]:
    """Bytes under a name that says how they are written."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _plain(key: bytes | None, found: Mapping[str, bytes], value: bytes | None) -> dict[str, Any]:
    out: dict[str, Any] = {name: text.decode(errors="replace") for name, text in found.items() if name != "kind"}
    if key is not None:
        out["key"] = key.decode(errors="replace")
    return out | _value(value)


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    if not value:
        return {}
    try:
        return {"value": orjson.loads(value)}
    except orjson.JSONDecodeError:
        return {"value_bytes": len(value)}


def dump(line: Mapping[str, Any]) -> bytes:
    """One line; times as ISO 8601 with their offset."""
    return orjson.dumps(line, option=orjson.OPT_UTC_Z)
