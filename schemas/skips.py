"""Skips: records of a topic that a stage skips by an operator's order, and stages that start from an empty state. Pure.

Both live in `platform.facts`, as JSON, and are read by every worker when partitions are assigned to it, before it
applies the first record of them; a reader that meets a record which it cannot read looks again before it stops.

    skip/{stage}/{partition}/{epoch}/{offset}   Skip    the record at `offset` of `topic` (epoch as in `topic/{topic}`)
    reset/{stage}/{partition}                   Reset   the next start of the partition ignores its snapshots, or a loss

`{stage}` is the stage that was ordered to skip; the sink, which reads all topics, obeys those of any stage for a record
that it cannot read itself: `Skips.of_topic`. What a skipped record counts for follows from its headers alone
(`declared`), so that the stage that answers it and the sink that counts it agree, and the ledger closes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

import orjson

from schemas.errors import ContractError
from schemas.headers import Headers
from schemas.vocabulary import Kind

SKIP: Final = "skip/"
RESET: Final = "reset/"
RULE: Final = "skipped"
"""The rule of the dead letters that a skipped record of telemetry.raw becomes: their reason is `skipped: why`."""
MAX_ROWS: Final = 100_000
"""A header may declare anything: no more rows than this are answered and counted. The bridge writes some thousands."""

T = TypeVar("T", bound="Skip | Reset")


@dataclass(frozen=True, slots=True)
class Skip:
    """The order to step over one record. `rows`: the dead letters that it becomes, as its headers declare them."""

    topic: str
    reason: str
    at_ms: int
    by: str = ""
    rows: int = 0

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Reset:
    """How the next start of a partition differs: `mode` is `from-oldest` (ignore the snapshots, begin with an empty
    state at the oldest record kept) or `skip-lost` (keep the state, accept that records or their links are missing).

    It is in force while no snapshot at `below` or later in `state.{stage}` (whose id is `topic_id`) is stored: so it
    counts once, however often workers start.
    """

    mode: str
    topic_id: str
    below: int
    reason: str
    at_ms: int
    by: str = ""

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)


FROM_OLDEST: Final = "from-oldest"
SKIP_LOST: Final = "skip-lost"


def skip_key(stage: str, partition: int, epoch: int, offset: int) -> str:
    return f"{SKIP}{stage}/{partition}/{epoch}/{offset}"


def reset_key(stage: str, partition: int) -> str:
    return f"{RESET}{stage}/{partition}"


@dataclass(frozen=True, slots=True)
class Skips:
    """All that `platform.facts` holds of them. `broken`: keys whose record cannot be read; they are in force for
    nobody."""

    of_stage: Mapping[tuple[str, int, int], Mapping[int, Skip]] = field(default_factory=dict)
    of_topic: Mapping[tuple[str, int, int], Mapping[int, Skip]] = field(default_factory=dict)
    resets: Mapping[tuple[str, int], Reset] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def stage(self, stage: str, partition: int, epoch: int) -> Mapping[int, Skip]:
        """Skips by offset, for the source of a stage, whose epoch is that of its topic."""
        return self.of_stage.get((stage, partition, epoch), {})

    def topic(self, topic: str, partition: int, epoch: int) -> Mapping[int, Skip]:
        """Skips by offset, for any stage."""
        return self.of_topic.get((topic, partition, epoch), {})


def parse(records: Iterable[tuple[str, bytes]]) -> Skips:
    """The skips and resets among the records (key, value) of `platform.facts`. Never raises."""
    of_stage: dict[tuple[str, int, int], dict[int, Skip]] = {}
    of_topic: dict[tuple[str, int, int], dict[int, Skip]] = {}
    resets: dict[tuple[str, int], Reset] = {}
    broken: dict[str, str] = {}
    for key, value in records:
        try:
            if key.startswith(SKIP):
                stage, partition, epoch, offset = _parts(key, SKIP, 4)
                found = _decode(Skip, key, value)
                of_stage.setdefault((stage, int(partition), int(epoch)), {})[int(offset)] = found
                of_topic.setdefault((found.topic, int(partition), int(epoch)), {})[int(offset)] = found
            elif key.startswith(RESET):
                stage, partition = _parts(key, RESET, 2)
                resets[stage, int(partition)] = _decode(Reset, key, value)
        except ContractError as error:
            broken[key] = str(error)
    return Skips(of_stage, of_topic, resets, broken)


def _parts(key: str, prefix: str, count: int) -> list[str]:
    parts = key[len(prefix) :].split("/")
    if len(parts) != count or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        raise ContractError(f"record {key!r}: its key has not the form {prefix}{{stage}}/…")
    return parts


def _decode(kind: type[T], key: str, value: bytes) -> T:
    """Fields that this version does not know are ignored. Raises ContractError."""
    try:
        body = orjson.loads(value)
        known = {name: body[name] for name in kind.__slots__ if name in body}
        found: Any = kind(**known)
        texts = [found.reason, found.topic if isinstance(found, Skip) else found.mode]
        numbers = [found.at_ms, found.rows if isinstance(found, Skip) else found.below]
        if all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers):
            return found  # type: ignore[no-any-return]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise ContractError(f"record {key!r} cannot be read: {error}") from None
    raise ContractError(f"record {key!r} cannot be read: a field has the wrong type")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the headers of a record of telemetry.raw declare: `messages` of devices, `platform` rows, and how many of
    the messages are replays. Nothing where they are missing or make no sense."""

    messages: int = 0
    platform: int = 0
    replayed: int = 0


def declared(headers: Headers | Mapping[str, bytes] | None) -> Declared:
    """Total: any headers give a value."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    found = dict(pairs)
    numbers = [found.get(name, b"") or b"" for name in ("rows", "platform", "replayed")]
    if len(found) != len(pairs) or found.get("kind") != Kind.DATA.encode() or not all(map(_is_number, numbers)):
        return Declared()
    rows, platform, replayed = (int(number) for number in numbers)
    messages = min(max(0, rows - platform), MAX_ROWS)
    return Declared(messages, min(platform, rows), min(replayed, messages))


def _is_number(text: bytes) -> bool:
    return 0 < len(text) < 10 and text.isdigit()
