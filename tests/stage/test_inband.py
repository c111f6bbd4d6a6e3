"""Settings take effect once, in the order of their versions, and a broken one changes nothing."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stage.contract import Record
from runtime.stage.inband import NEVER, InBand, News, key_of
from schemas.control import good_key, mark_key, settings_key
from schemas.errors import ContractError
from schemas.headers import Version, raw_control, table
from schemas.vocabulary import Kind

KEY = settings_key("toy")


def control(version: Version, value: bytes, key: str = KEY) -> Record:
    return Record(0, 0, 0, 0, Kind.CONTROL, table(raw_control(version, key)), value)


def limit(value: bytes) -> int:
    """A toy's settings: one limit."""
    try:
        return int(orjson.loads(value)["limit"])
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(f"toy settings: {error!r}") from None


def settings() -> InBand[int]:
    return InBand(KEY, limit, initial=7)


_versions = st.builds(Version, st.integers(0, 2), st.integers(0, 5))
_values = st.one_of(st.integers(0, 9).map(lambda n: b'{"limit":%d}' % n), st.sampled_from([b"", b"{}", b"\xff", b"["]))


@given(st.lists(st.tuples(_versions, _values), max_size=20))
def test_in_force_is_the_last_good_one_in_the_order_of_versions(records: list[tuple[Version, bytes]]) -> None:
    found, again = settings(), settings()
    want, highest, refused = 7, NEVER, 0
    for version, value in records:
        news = version > highest
        highest = max(highest, version)
        good = value.startswith(b'{"limit"')
        refused += news and not good
        want = limit(value) if news and good else want
        assert found.take(control(version, value)) is (news and good)
        assert (found.value, found.version, found.refused) == (want, highest, refused)
        assert again.take(control(version, value)) is (news and good), "a restart in between changes nothing"
        stored = orjson.dumps(again.stored())
        assert stored == orjson.dumps(found.stored())
        again = settings()
        again.restore(**orjson.loads(stored))


def test_records_of_other_keys_are_somebody_elses() -> None:
    found = settings()
    assert not found.take(control(Version(0, 1), b'{"limit":1}', key="policy"))
    assert found.value == 7 and found.version == NEVER and found.text is None


def test_the_last_good_version_is_in_force_before_and_after_compaction_removed_it() -> None:
    good, broken = b'{"limit":7}', b"{"
    log = [
        control(Version(0, 4), good, key=good_key(KEY)), control(Version(0, 5), good), control(Version(0, 9), broken),
    ]  # fmt: skip
    before, after = settings(), settings()
    assert [before.take(record) for record in log] == [True, True, False]
    assert [after.take(record) for record in (log[0], log[2])] == [True, False], "compaction removed offset 5"
    assert before.value == after.value and before.version == after.version == Version(0, 9)
    for found in (before, after):
        assert found.take(control(Version(0, 11), b'{"limit":8}')), "the next good one supersedes it"
        assert not found.take(control(Version(0, 12), b'{"limit":8}', key=good_key(KEY))), "its copy changes nothing"


def test_a_control_record_without_a_version_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="version"):
        settings().take(Record(0, 0, 0, 0, Kind.CONTROL, {"key": KEY.encode()}, b"{}"))


def test_marks_count_once_each_and_not_again_when_they_are_sent_again() -> None:
    marks = [control(Version(0, n), b"{}", mark_key(f"i-{n}")) for n in (3, 5, 9)]
    news = News()
    assert [news.take(mark) for mark in [*marks, *marks]] == [True] * 3 + [False] * 3
    again = News()
    again.restore(orjson.loads(orjson.dumps(news.stored())))
    assert not again.take(marks[2])
    assert again.take(control(Version(1, 0), b"{}", mark_key("i-10"))), "platform.control was re-created"
    assert key_of(marks[0]) == "mark/i-3"


def test_stored_settings_that_a_new_version_cannot_read_are_an_error_not_a_default() -> None:
    with pytest.raises(ContractError, match="toy settings"):
        settings().restore("{}", [0, 1], 0)
