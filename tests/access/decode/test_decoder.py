"""The decoder as a whole: properties, agreement, children, what it learns and forgets, and how it fails."""

import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import raw
from streams.access.decode import RULES, Decoder, fast, first_seen, formats
from streams.access.decode.names import MAX_KNOWN
from tests.access.decode.payloads import DEVICE, EVIL, RECEIVED_MS, batch, fates, law

JSON = b'{"a":1}'


def one(payload: bytes = JSON, **properties: str | None) -> Any:
    """The fate of a message with these properties, alone and in a batch, which must be the same."""
    columns = {key: [value] * 3 for key, value in properties.items()}
    alone = fates(Decoder().decode(batch([payload], **{key: [value] for key, value in properties.items()})))[0]
    among = fates(Decoder(few=1).decode(batch([payload] * 3, received_at=[RECEIVED_MS] * 3, **columns)))
    assert among == [alone] * 3
    return alone


@pytest.mark.parametrize(
    ("payload", "properties", "boot", "seq"),
    [
        (JSON, {}, -1, -1),
        (JSON, {"boot": "0", "seq": "0"}, 0, 0),
        (JSON, {"boot": "007", "seq": "9007199254740991"}, 7, 9007199254740991),
        (b'{"a":1,"boot":5,"seq":6}', {}, 5, 6),
        (b'{"a":1,"boot":5,"seq":6}', {"boot": "5", "seq": "6"}, 5, 6),
        (b'{"a":1,"boot":5}', {"seq": "6"}, 5, 6),
        (b'{"a":1,"seq":6}', {"seq": None, "boot": "5"}, 5, 6),
    ],
)
def test_boot_and_seq_come_from_properties_or_payload(
    payload: bytes, properties: dict[str, str | None], boot: int, seq: int
) -> None:
    assert one(payload, **properties)[:2] == (boot, seq)


@pytest.mark.parametrize(
    ("payload", "properties", "reason"),
    [
        (b'{"a":1,"seq":6}', {"seq": "7"}, "seq: property says 7, payload 6"),
        (b'{"a":1,"boot":6}', {"boot": "7"}, "boot: property says 7, payload 6"),
        (JSON, {"seq": "x"}, "seq: property 'x' is not a whole number from 0 below 2^53"),
        (JSON, {"seq": ""}, "seq: property '' is not a whole number from 0 below 2^53"),
        (JSON, {"seq": "-1"}, "seq: property '-1' is not a whole number from 0 below 2^53"),
        (JSON, {"seq": "1.0"}, "seq: property '1.0' is not a whole number from 0 below 2^53"),
        (JSON, {"seq": "0x1F"}, "seq: property '0x1F' is not a whole number from 0 below 2^53"),
        (JSON, {"seq": "٣"}, "seq: property '٣' is not a whole number from 0 below 2^53"),
        (
            JSON,
            {"boot": "9007199254740992"},
            "boot: property '9007199254740992' is not a whole number from 0 below 2^53",
        ),
        (JSON, {"ts": "now"}, "ts: 'now' is neither whole milliseconds nor ISO 8601"),
    ],
)
def test_properties_that_are_wrong_or_contradict_the_payload_make_dead_letters(
    payload: bytes, properties: dict[str, str | None], reason: str
) -> None:
    assert one(payload, **properties)[0] == reason


@pytest.mark.parametrize(
    ("payload", "ts", "time"),
    [
        (JSON, None, RECEIVED_MS),
        (JSON, "5000", 5000),
        (JSON, "-5000", -5000),
        (JSON, "2026-11-23T14:00:00Z", 1_795_442_400_000),
        (b'{"a":1,"ts":7000}', "5000", 7000),
    ],
)
def test_the_time_is_the_readings_then_the_messages_then_when_it_was_received(
    payload: bytes, ts: str | None, time: int
) -> None:
    assert one(payload, ts=ts)[2][0][3] == time


def test_a_wrong_property_spoils_its_own_row_only_and_the_others_keep_theirs() -> None:
    rows = batch([JSON] * 4, seq=["1", "x", None, "4"], boot=["1", "2", None, "4"], ts=["5", None, "bad", None])
    got = Decoder(few=1).decode(rows)
    assert sorted(got.dead) == [1, 2]
    assert got.seq.tolist() == [1, -1, -1, 4] and got.boot.tolist() == [1, 2, -1, 4]
    assert got.row.tolist() == [0, 3] and got.time_ms.tolist() == [5, RECEIVED_MS + 3]


def test_rows_that_are_not_wanted_are_neither_decoded_nor_dead() -> None:
    rows = batch([JSON, b"{", JSON, b"{", JSON], seq=["1", "2", "x", "4", "5"])
    for few in (1, 100):
        got = Decoder(few).decode(rows, np.array([True, False, False, True, True]))
        assert got.row.tolist() == [0, 4] and sorted(got.dead) == [3]
        assert got.seq.tolist() == [1, 2, -1, 4, 5]


def test_an_empty_batch_has_no_readings() -> None:
    got = Decoder(few=1).decode(batch([JSON, b"{"]).slice(0, 0))
    assert fates(got) == [] and got.text is None and got.child is None


def test_children_are_numbered_as_they_are_met_and_a_device_that_names_itself_is_none() -> None:
    rows = batch(
        [b'{"device":"%s","a":1}' % name for name in (b"x-2", b"x-1", DEVICE.encode(), b"x-2", b"X")] + [JSON],
        device=[DEVICE, DEVICE, DEVICE, "x-2", DEVICE, DEVICE],
    )
    for few in (1, 100):
        got = Decoder(few).decode(rows)
        assert got.child is not None
        assert got.child.tolist() == [0, 1, -1, -1, -1] and list(got.children) == ["x-2", "x-1"]
        assert got.dead == {4: "device: 'X' is not a valid device id"}


def test_an_unknown_content_type_is_a_dead_letter_and_parameters_and_case_do_not_matter() -> None:
    rows = batch(
        [JSON] * 5, content_type=["text/plain", "Application/JSON; charset=utf-8", "", None, "application/xml"]
    )
    for few in (1, 100):
        got = Decoder(few).decode(rows)
        assert got.row.tolist() == [1, 2, 3] and sorted(got.dead) == [0, 4]
        assert got.dead[0].startswith("content_type: 'text/plain' is not known; known are application/json, ")


def meaning(decoder: Decoder, payloads: list[bytes]) -> Any:
    return fates(decoder.decode(batch(payloads)))


def test_what_was_decoded_before_changes_nothing() -> None:
    r = random.Random(3)
    used = Decoder(few=1)
    for _ in range(30):
        payloads = r.choices(EVIL, k=40) + [b'{"k%d":1,"common":2}' % r.randrange(10_000) for _ in range(40)]
        assert meaning(used, payloads) == meaning(Decoder(few=1), payloads) == meaning(Decoder(), payloads)


def test_known_names_keep_their_codes_and_other_names_are_for_the_batch_only() -> None:
    decoder = Decoder(few=1)
    first = decoder.decode(batch([JSON, JSON, b'{"b":1}']))
    assert (list(first.names[: first.known]), list(first.names[first.known :])) == (["a"], ["b"])
    second = decoder.decode(batch([b'{"c":1}', b'{"b":1}', JSON]))
    assert [second.names[code] for code in second.metric] == ["c", "b", "a"]
    assert second.generation == first.generation and second.names[0] == "a"


def test_names_of_messages_decoded_one_by_one_are_known_when_they_come_again() -> None:
    decoder = Decoder()
    assert [decoder.decode(batch([JSON])).known for _ in range(3)] == [0, 0, 1]


def hostile(start: int, rows: int, keys: int = 1) -> list[bytes]:
    return [
        b"{" + b",".join(b'"k%d":1' % (n * keys + key) for key in range(keys)) + b"}"
        for n in range(start, start + rows)
    ]


@pytest.mark.parametrize("copies", [1, 2])
def test_invented_names_cost_no_memory(copies: int) -> None:
    """Whether each name comes once, or twice so that it is learned."""
    decoder = Decoder()

    def feed(first: int, batches: int) -> None:
        for n in range(first, first + batches):
            got = decoder.decode(batch(hostile(n * 70, 70, keys=8) * copies + [JSON] * 10))
            assert got.known <= MAX_KNOWN + 64 * 64
            assert got.names[got.metric[-1]] == "a"

    feed(0, 16)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        feed(16, 16)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000


def test_when_too_much_is_known_all_is_forgotten_and_learned_anew() -> None:
    decoder = Decoder(few=1)
    seen = set()
    for n in range(150):
        payloads = hostile(n * 64, 64, keys=2) * 2 + [JSON] * 5
        got = decoder.decode(batch(payloads))
        seen.add(got.generation)
        assert [got.names[code] for code in got.metric[-5:]] == ["a"] * 5
    assert len(seen) > 1


def test_a_failure_of_the_batch_path_loses_nothing_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise IndexError("a bug")

    expected = meaning(Decoder(few=1), EVIL)
    decoder = Decoder(few=1)
    decoder.decode(batch([JSON, JSON]))
    with monkeypatch.context() as patch:
        patch.setattr(fast, "_apply", fail)
        got = decoder.decode(batch(EVIL))
    assert got.fallback and fates(got) == expected and "batch path failed" in caplog.text
    after = decoder.decode(batch([JSON, JSON]))
    assert not after.fallback and after.generation == got.generation + 1


def test_invented_shapes_are_soon_decoded_one_by_one_and_usual_ones_together_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, answer, decoder = [], fast.answer, Decoder()

    def counted(*given: Any) -> Any:
        tried.append(given)
        return answer(*given)

    monkeypatch.setattr(fast, "answer", counted)
    for n in range(40):
        payloads = [b'{"k%d":%d}' % (100 * n + i, i) for i in range(100)]
        assert fates(decoder.decode(batch(payloads))) == [law(p, RECEIVED_MS + i) for i, p in enumerate(payloads)]
    assert len(tried) < 8
    usual = batch([JSON] * 100)
    for _ in range(40):
        decoder.decode(usual)
    assert len(tried) > 25


def test_one_partition_of_invented_shapes_does_not_slow_the_others_down(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, answered = Decoder(), []
    answer = fast.answer
    monkeypatch.setattr(fast, "answer", lambda *given: answered.append(answer(*given)) or answered[-1])
    usual = batch([JSON] * 100)
    for n in range(30):
        decoder.decode(batch([b'{"k%d":1}' % (100 * n + i) for i in range(100)]))
        decoder.decode(usual)
    assert sum(len(one.done) == 100 for one in answered) == 30


def test_a_decoder_with_a_bug_makes_its_own_message_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(payload: bytes, received_ms: int) -> Any:
        raise KeyError(payload)

    monkeypatch.setitem(formats.FORMATS, "application/x-new", fail)
    got = Decoder(few=1).decode(
        batch([JSON, b"?", JSON], content_type=[None, "application/x-new", None], seq=["1"] * 3)
    )
    assert got.row.tolist() == [0, 2] and got.seq.tolist() == [1, 1, 1]
    assert got.dead == {1: f"internal: KeyError in {__name__}"}


def test_every_reason_begins_with_a_rule() -> None:
    got = Decoder().decode(batch([*EVIL, JSON], content_type=[None] * len(EVIL) + ["x/y"]))
    assert {reason.partition(": ")[0] for reason in got.dead.values()} <= RULES.keys()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=30))
def test_first_seen_numbers_by_first_appearance(codes: list[int]) -> None:
    dense, order = first_seen(np.array(codes, np.int32))
    assert order.tolist() == list(dict.fromkeys(codes))
    assert [order[code] for code in dense] == codes
    assert dense.dtype == order.dtype == np.int32


def test_what_the_bridge_had_to_cut_is_too_large_whatever_its_beginning_says() -> None:
    got = Decoder().decode(batch([JSON], content_type=[raw.CUT]))
    assert got.dead[0].startswith("too_large: ")
