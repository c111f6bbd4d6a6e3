"""The headers Millrace-Boot, Millrace-Seq and Millrace-Ts, and the columns that they become.

They are text in telemetry.raw as they came: what is not a number must reach the dead letters, not be refused here. Of
an NDJSON body, boot and ts hold for every line, and seq is that of the first line: the lines after it count up by one
each. Without the headers each line may carry `boot`, `seq` and `ts` as keys of its own, which access reads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from bridge.core.rows import Properties
from bridge.http.errors import broken
from schemas.errors import ContractError
from schemas.stamps import whole_number

BOOT: Final = "Millrace-Boot"
SEQ: Final = "Millrace-Seq"
TS: Final = "Millrace-Ts"

_is_text = re.compile(r"[ -~]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Stamps:
    boot: bytes | None = None
    seq: bytes | None = None
    ts: bytes | None = None


def parse(headers: Mapping[str, str]) -> Stamps:
    """Raises Refusal 400 for a value that is not 1 to 64 printable ASCII characters."""
    return Stamps(_text(headers, BOOT), _text(headers, SEQ), _text(headers, TS))


def _text(headers: Mapping[str, str], name: str) -> bytes | None:
    value = headers.get(name)
    if value is None:
        return None
    if not _is_text(value):
        raise broken(f"header {name} must be 1 to 64 printable ASCII characters")
    return value.encode("ascii")


def properties(stamps: Stamps, row_type: bytes, count: int) -> list[Properties]:
    """The properties of each of `count` messages of one request."""
    first = Properties(row_type, stamps.ts, stamps.boot, stamps.seq)
    if count == 1 or stamps.seq is None:
        return [first] * count
    try:
        seq = whole_number(stamps.seq.decode())
    except ContractError:
        return [first] * count
    later = map(b"%d".__mod__, range(seq + 1, seq + count))
    columns = zip(repeat(row_type), repeat(stamps.ts), repeat(stamps.boot), later, repeat(False))
    return [first, *map(Properties._make, columns)]
