"""Kafka record headers: what a reader needs to know before it opens the value. All values are ASCII text.

`telemetry.raw`        schema, kind, and for data: rows, platform, replayed; for ticks: time; for control: version, key
`telemetry.readings`   schema, kind, src, prev, time, and for data the counts of COUNTS;
                       a control record passed on keeps its version, key and value
what stages derive     schema, kind, src, prev, time, rows, and counts of their own (DerivedHeaders)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.errors import ContractError, NewerSchemaError
from schemas.vocabulary import Kind

Headers = Sequence[tuple[str, bytes]]

COUNTS: Final = (
    "received",
    "accepted",
    "denied",
    "dead_letters",
    "duplicates",
    "replayed",
    "missing",
    "readings",
    "events",
)
"""Counts of one readings record. The first five are messages: received is the sum of the four after it.
`replayed` of `received` were replays; `missing` seq numbers were given up; `readings` rows have verdict accepted,
`events` rows have verdict event (absent from records of version 1, which have none)."""


def table(headers: Headers | None) -> dict[str, bytes]:
    """Headers as a dictionary. A duplicate key is rejected: two readers could see different values."""
    found = dict(headers or ())
    if len(found) != len(headers or ()):
        raise ContractError("record headers: duplicate key")
    return found


def number(found: Mapping[str, bytes], key: str) -> int:
    """An integer header. Raises ContractError that names the header."""
    try:
        return int(found[key])
    except KeyError:
        raise ContractError(f"record header {key!r} is missing") from None
    except ValueError:
        raise ContractError(f"record header {key!r} is not a number: {found[key][:40]!r}") from None


def kind_of(found: Mapping[str, bytes]) -> Kind:
    try:
        return Kind(found["kind"].decode("ascii"))
    except KeyError:
        raise ContractError("record header 'kind' is missing") from None
    except ValueError:
        raise ContractError(f"record header 'kind' is unknown: {found['kind'][:40]!r}") from None


def check_schema(found: Mapping[str, bytes], name: str, newest: int) -> int:
    """The version of the record's schema. Raises NewerSchemaError above `newest`, ContractError on another name."""
    text = found.get("schema", b"").decode("ascii", "replace")
    got, _, version = text.partition("/")
    if got != name or not version.isdigit() or version == "0":
        raise ContractError(f"record header 'schema' is {text!r}; expected {name}/1 to {name}/{newest}")
    if int(version) > newest:
        raise NewerSchemaError(f"schema {text}: this reader knows up to {name}/{newest}; upgrade it before the writer")
    return int(version)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Version of a control record: epoch and offset in `platform.control`. Later is greater."""

    epoch: int
    offset: int

    def encode(self) -> bytes:
        return b"%d/%d" % (self.epoch, self.offset)

    @classmethod
    def parse(cls, text: bytes) -> "Version":
        try:
            epoch, offset = text.split(b"/")
            return cls(int(epoch), int(offset))
        except ValueError:
            raise ContractError(f"record header 'version' is {text[:40]!r}; expected epoch/offset") from None


def raw_data(rows: int, platform: int = 0, replayed: int = 0) -> list[tuple[str, bytes]]:
    """Headers of a data record of telemetry.raw. `rows` counts all rows, platform ones included."""
    return [
        ("schema", b"telemetry.raw/1"),
        ("kind", b"data"),
        ("rows", b"%d" % rows),
        ("platform", b"%d" % platform),
        ("replayed", b"%d" % replayed),
    ]


def raw_tick(time_ms: int) -> list[tuple[str, bytes]]:
    return [("schema", b"telemetry.raw/1"), ("kind", b"tick"), ("time", b"%d" % time_ms)]


def raw_control(version: Version, key: str) -> list[tuple[str, bytes]]:
    return [
        ("schema", b"telemetry.raw/1"),
        ("kind", b"control"),
        ("version", version.encode()),
        ("key", key.encode()),
    ]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a derived record comes from: offset of its raw record, and of the raw record of the writer's previous
    output to the same topic and partition (-1: none). `epoch` is that of telemetry.raw."""

    epoch: int
    src: int
    prev: int

    def encode(self) -> list[tuple[str, bytes]]:
        return [("src", b"%d/%d" % (self.epoch, self.src)), ("prev", b"%d" % self.prev)]

    @classmethod
    def parse(cls, found: Mapping[str, bytes]) -> "Provenance":
        try:
            epoch, src = found["src"].split(b"/")
            return cls(int(epoch), int(src), int(found["prev"]))
        except (KeyError, ValueError):
            raise ContractError("record headers 'src' and 'prev' are missing or no epoch/offset and offset") from None


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages of one raw record by fate; see COUNTS."""

    received: int = 0
    accepted: int = 0
    denied: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    replayed: int = 0
    missing: int = 0
    readings: int = 0
    events: int = 0

    def encode(self) -> list[tuple[str, bytes]]:
        return [(key, b"%d" % getattr(self, key)) for key in COUNTS]

    @classmethod
    def parse(cls, found: Mapping[str, bytes]) -> "Counts":
        return cls(*(number(found, key) for key in COUNTS if key != "events" or key in found))


@dataclass(frozen=True, slots=True)
class ReadingsHeaders:
    """Headers of a record of telemetry.readings, without provenance (the stage frame adds that)."""

    kind: Kind
    time_ms: int
    counts: Counts = field(default_factory=Counts)
    control: tuple[tuple[str, bytes], ...] = ()

    def encode(self) -> list[tuple[str, bytes]]:
        out = [("schema", b"telemetry.readings/2"), ("kind", self.kind.encode()), ("time", b"%d" % self.time_ms)]
        if self.kind is Kind.DATA:
            out += self.counts.encode()
        return out + list(self.control)


@dataclass(frozen=True, slots=True)
class DerivedHeaders:
    """Headers of a record that a stage behind access writes, without provenance (the frame adds that).

    `schema` is "name/version", `time_ms` stream time, `rows` those of the value (0: no value), `counts` what else the
    ledger or a reader needs to know before the value is opened, by the names that the schema's module gives.
    """

    schema: str
    kind: Kind
    time_ms: int
    rows: int = 0
    counts: tuple[tuple[str, int], ...] = ()

    def encode(self) -> list[tuple[str, bytes]]:
        return [
            ("schema", self.schema.encode()),
            ("kind", self.kind.encode()),
            ("time", b"%d" % self.time_ms),
            ("rows", b"%d" % self.rows),
            *((name, b"%d" % count) for name, count in self.counts),
        ]
