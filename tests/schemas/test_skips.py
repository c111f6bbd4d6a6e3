"""Orders to skip a record or to reset a stage: any bytes are a value or are reported, and headers declare their
rows."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.headers import Version, raw_control, raw_data, raw_tick
from schemas.skips import MAX_ROWS, Declared, Reset, Skip, declared, parse, reset_key, skip_key

SKIP = Skip("telemetry.raw", "garbage by hand", 1_700_000_000_000, "ops", 3)
RESET = Reset("from-oldest", "id-1", 7, "topic deleted", 1_700_000_000_000)


def test_skips_are_found_by_stage_and_by_topic_and_resets_by_stage() -> None:
    found = parse([(skip_key("access", 1, 0, 42), SKIP.encode()), (reset_key("access", 2), RESET.encode())])
    assert found.stage("access", 1, 0) == found.topic("telemetry.raw", 1, 0) == {42: SKIP}
    assert not found.stage("access", 1, 1) and not found.stage("aggregate", 1, 0) and not found.broken
    assert found.resets == {("access", 2): RESET}


def test_a_field_of_a_newer_version_is_ignored() -> None:
    value = SKIP.encode()[:-1] + b',"approved_by":"x"}'
    assert parse([(skip_key("access", 1, 0, 42), value)]).stage("access", 1, 0) == {42: SKIP}


@given(
    st.one_of(
        st.text(max_size=30), st.sampled_from(["skip/a/0/0/1", "reset/a/0", "skip/a/x/0/1", "skip/a", "reset//"])
    ),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"{}", b"[]", b"1", SKIP.encode(), RESET.encode(), b'{"topic":5,"reason":1,"at_ms":true}']),
    ),
)
def test_no_record_of_the_topic_makes_it_unreadable(key: str, value: bytes) -> None:
    found = parse([("topic/x", b"{}"), (key, value), (skip_key("access", 0, 0, 1), SKIP.encode())])
    assert found.stage("access", 0, 0)[1] == SKIP


_headers = st.lists(
    st.tuples(
        st.sampled_from(["kind", "rows", "platform", "replayed", "x"]),
        st.one_of(st.binary(max_size=12), st.sampled_from([b"data", b"tick", b"7", b"0", b"999999999", b"-1"])),
    ),
    max_size=6,
)


@given(_headers)
def test_any_headers_declare_something_bounded(headers: list[tuple[str, bytes]]) -> None:
    found = declared(headers)
    assert 0 <= found.replayed <= found.messages <= MAX_ROWS and found.platform >= 0


def test_headers_of_the_bridge_declare_what_they_say() -> None:
    assert declared(raw_data(10, platform=2, replayed=1)) == Declared(8, 2, 1)
    assert declared(dict(raw_data(10))) == Declared(10)
    for others in (raw_tick(5), raw_control(Version(0, 1), "policy"), [], None, [*raw_data(3), ("rows", b"4")]):
        assert declared(others) == Declared()
