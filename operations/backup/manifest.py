"""What a backup holds: the file `manifest.json`, written last. A folder without one is no backup."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from runtime.errors import RefusedError

NAME: Final = "manifest.json"
CONTROL: Final = "control.jsonl"
FORM: Final = 1


@dataclass(frozen=True, slots=True)
class File:
    """One file. Of a table: `rows` in it, and `mark`, a sum of hashes of whole rows, or None where rows replace each
    other and the sum means nothing. Of platform.control: `records` in it, None in backups of older versions."""

    path: str
    bytes: int
    sha256: str
    table: str = ""
    rows: int = 0
    mark: int | None = None
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's identity, and by partition the offset from which it must be read on: (epoch, offset)."""

    topic_id: str
    epoch: int
    partitions: int
    read_on: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`made_at` is UTC, ISO 8601; `migrations` by name the checksum of each that was applied."""

    made_at: str
    migrations: dict[str, str]
    topics: dict[str, Topic]
    files: list[File]

    def encode(self) -> bytes:
        option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        return orjson.dumps({"form": FORM, **asdict(self)}, option=option)

    @property
    def tables(self) -> dict[str, list[File]]:
        found: dict[str, list[File]] = {}
        for file in self.files:
            if file.table:
                found.setdefault(file.table, []).append(file)
        return found


def read(folder: Path) -> Manifest:
    """The manifest of a backup. Raises RefusedError."""
    path = folder / NAME
    try:
        body = orjson.loads(path.read_bytes())
        if body["form"] != FORM:
            raise RefusedError(f"{path}: form {body['form']!r}; this Millrace reads {FORM}")
        topics = {name: _topic(found) for name, found in body["topics"].items()}
        return Manifest(body["made_at"], body["migrations"], topics, [File(**file) for file in body["files"]])
    except FileNotFoundError:
        raise RefusedError(f"{folder} is no backup: it has no {NAME}, so it is incomplete") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{path}: {error!r}: it was changed, or is of another Millrace") from None


def _topic(body: dict[str, object]) -> Topic:
    read_on = body["read_on"]
    assert isinstance(read_on, dict)
    ends = {int(partition): (int(epoch), int(offset)) for partition, (epoch, offset) in read_on.items()}
    return Topic(str(body["topic_id"]), int(str(body["epoch"])), int(str(body["partitions"])), ends)


def check(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files: missing, not the bytes that were written, or not as many rows."""
    return [problem for file in manifest.files if (problem := _problem(folder / file.path, file))]


def _problem(path: Path, file: File) -> str:
    if not path.exists():
        return f"{file.path} is missing"
    if sha256(path) != file.sha256:
        return f"{file.path} is not what was written: its checksum differs"
    if not file.table:
        lines = path.read_bytes().count(b"\n")
        return "" if file.records in (None, lines) else f"{file.path} holds {lines:,} records, not {file.records:,}"
    try:
        rows = pq.read_metadata(path).num_rows
    except pa.ArrowInvalid as error:
        return f"{file.path} is no Parquet file: {error}"
    return "" if rows == file.rows else f"{file.path} holds {rows:,} rows, not {file.rows:,}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
