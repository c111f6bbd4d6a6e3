"""One table of times, numbers and content types for MQTT and HTTP: what both ways in make of the same text."""

import pyarrow as pa
import pytest

from bridge.http.core import formats, stamps
from bridge.http.errors import Refusal
from schemas import content_types, raw
from schemas.content_types import media_type
from schemas.errors import ContractError
from schemas.stamps import time_ms, whole_number
from streams.access.decode.formats import FORMATS, format_of
from streams.access.decode.message import NO_TIME
from streams.access.decode.properties import read

NUMBERS = {
    "0": 0,
    "7": 7,
    "007": 7,
    "9007199254740991": 2**53 - 1,
    "9007199254740992": None,
    "10000000000000000": None,
    "123456789012345678": None,
    "-1": None,
    "1.0": None,
    "1e3": None,
    " 1": None,
    "+1": None,
    "1_0": None,
    "x1": None,
}
TIMES = {
    "1767225600000": 1767225600000,
    "-1": -1,
    "0": 0,
    "2026-01-01T00:00:00Z": 1767225600000,
    "2026-01-01T00:00:00": 1767225600000,
    "2026-01-01T01:00:00.999999+01:00": 1767225600999,
    "2026-01-01": 1767225600000,
    "9007199254740992": None,
    "1767225600.5": None,
    "yesterday": None,
    "1e12": None,
}
TYPES = {
    "application/json": content_types.JSON,
    "Application/JSON": content_types.JSON,
    " application/json ; charset=utf-8": content_types.JSON,
    'application/json;charset="UTF-8"': content_types.JSON,
    "application/json; charset=latin1": content_types.JSON,
    "application/json; version=2": content_types.JSON,
    "text/json": content_types.JSON,
    "application/senml+json": content_types.SENML_JSON,
    "APPLICATION/SenML+CBOR; x=1": content_types.SENML_CBOR,
    "text/plain": None,
    "application": None,
    "json": None,
}


def by_mqtt(boot: str | None, seq: str | None, ts: str | None) -> tuple[int | None, ...]:
    """What access makes of user properties; None for a message that becomes a dead letter."""
    columns = {"boot": boot, "seq": seq, "ts": ts}
    batch = pa.record_batch({name: pa.array([text], pa.string()) for name, text in columns.items()})
    found = read(batch, pa.array([True]).to_numpy(zero_copy_only=False))
    if found.dead:
        return (None,)
    return tuple(int(column[0]) for column in (found.boot, found.seq, found.time_ms) if column is not None)


def by_http(boot: str | None, seq: str | None, ts: str | None) -> tuple[int | None, ...]:
    """The same of HTTP's headers."""
    named = {stamps.BOOT: boot, stamps.SEQ: seq, stamps.TS: ts}
    given = stamps.parse({name: text for name, text in named.items() if text is not None})
    (found,) = stamps.properties(given, b"application/json", 1)
    return by_mqtt(*(text and text.decode() for text in (found.boot, found.seq, found.ts)))


ways = pytest.mark.parametrize("way", [by_mqtt, by_http])


@ways
@pytest.mark.parametrize(("text", "number"), NUMBERS.items())
def test_boot_and_seq_mean_the_same_by_both_ways(way, text: str, number: int | None) -> None:  # type: ignore[no-untyped-def]
    assert way(text, None, None) == (number,)
    assert way(None, text, None) == (number,)


@ways
@pytest.mark.parametrize(("text", "moment"), TIMES.items())
def test_ts_means_the_same_by_both_ways(way, text: str, moment: int | None) -> None:  # type: ignore[no-untyped-def]
    assert way(None, None, text) == (moment,)
    assert moment != NO_TIME


@pytest.mark.parametrize(("text", "number"), NUMBERS.items())
def test_seq_counts_up_over_the_lines_of_a_body_exactly_if_access_reads_it(text: str, number: int | None) -> None:
    found = [p.seq for p in stamps.properties(stamps.Stamps(seq=text.encode()), b"j", 3)]
    if number is None:
        assert found == [text.encode()] * 3
    else:
        assert found == [text.encode(), b"%d" % (number + 1), b"%d" % (number + 2)]


@pytest.mark.parametrize(("text", "media"), TYPES.items())
def test_a_content_type_means_the_same_by_both_ways(text: str, media: str | None) -> None:
    decoder = format_of(text)
    if media is None:
        assert media_type(text) not in FORMATS
        with pytest.raises(Refusal, match="Content-Type"):
            formats.parse_type(text)
    else:
        assert decoder is FORMATS[media]
        assert formats.parse_type(text).media_type == media == formats.parse_type(text).row_type.decode()


def test_the_types_that_only_one_way_takes_are_those_of_the_page_for_devices() -> None:
    by_http = {found.media_type for found in formats.FORMATS}
    by_mqtt = {kind for kind in FORMATS if kind.startswith("application/")}
    assert by_http - by_mqtt == {content_types.NDJSON}
    assert by_mqtt - by_http == {content_types.ARROW, raw.CUT}


@pytest.mark.parametrize("parse", [whole_number, time_ms])
@pytest.mark.parametrize(
    "text", ["", "٣", "１", "\x00", "9" * 400, "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]
)
def test_any_text_is_a_value_or_a_contract_error(parse, text: str) -> None:  # type: ignore[no-untyped-def]
    try:
        assert isinstance(parse(text), int)
    except ContractError as error:
        assert len(str(error)) < 200  # noqa: PT017
