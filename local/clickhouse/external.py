"""External data: tables that travel with a request, as parts of a multipart/form-data body."""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from local.clickhouse import errors

_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)')
_NAME: Final = re.compile(rb'[; ]name="([^"]*)"')
_FILE: Final = re.compile(rb'[; ]filename="[^"]*"')
_is_word = re.compile(r"[A-Za-z_]\w*").fullmatch


@dataclass(frozen=True, slots=True)
class External:
    """A table of one request: `structure` as in CREATE TABLE, `data` in `format`."""

    name: str
    structure: str
    format: str
    data: bytes


def parse(body: bytes, content_type: str, fields: MutableMapping[str, str]) -> list[External]:
    """Files become tables, described by NAME_structure or NAME_types and NAME_format; the other parts join `fields`."""
    files: dict[str, bytes] = {}
    for name, is_file, data in _parts(body, content_type):
        if is_file:
            files[name] = data
        else:
            fields[name] = data.decode()
    return [_table(name, data, fields) for name, data in files.items()]


def _parts(body: bytes, content_type: str) -> list[tuple[str, bool, bytes]]:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise errors.syntax("multipart/form-data without a boundary")
    mark = b"--" + boundary[1].encode()
    found = []
    for part in (b"\r\n" + body).split(b"\r\n" + mark)[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is None:
            raise errors.syntax("a part of the body has no name")
        found.append((name[1].decode(), _FILE.search(head) is not None, data))
    return found


def _table(name: str, data: bytes, fields: MutableMapping[str, str]) -> External:
    if not _is_word(name):
        raise errors.syntax(f"external table {name!r}: not a name")
    types = fields.pop(f"{name}_types", "String")
    columns = ", ".join(f"_{number} {kind}" for number, kind in enumerate(types.split(","), 1))
    return External(name, fields.pop(f"{name}_structure", columns), fields.pop(f"{name}_format", "TabSeparated"), data)
