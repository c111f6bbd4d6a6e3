"""The law: whatever is in a batch, the batch path answers as the format would, a message at a time, bit for bit."""

import json
import os
import random

import cbor2
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.access.decode import Decoder, fast
from streams.access.decode.names import Names
from streams.access.decode.templates import Templates
from tests.access.decode.payloads import DEEP, EVIL, LARGE, assert_lawful, batch, mutated
from tests.access.decode.streams import stream

SHAPES = [
    b'{"ts":1763900000123,"boot":3,"seq":17,"temperature":21.53,"humidity":40.2}',
    b'{"rpm":1450,"current":3.125,"state":"run"}',
    b'{"ts":1763900000123,"motor":{"rpm":5,"bearing":{"x":0.25,"y":-1.5}},"on":true}',
    b'[{"ts":1763900000123,"kwh":3.25},{"ts":1763900000623,"kwh":3.5}]',
    b'{"ts":"2026-11-23T12:00:00.250Z","kwh":1003.125}',
    b'[{"device":"child-1","temperature":2.5},{"device":"child-2","temperature":-2.5}]',
    b'{ "temperature": 20.5, "unit": "Cel", "seq": 4, "boot": 1 }',
]
PACK = [{"bn": "child-1:", "bt": 1.763900000123e9, "n": "a", "v": 2.5}, {"n": "b", "t": -5, "vs": "x", "u": "Cel"}]
OTHERS: list[tuple[str | None, bytes]] = [
    ("application/json", SHAPES[0]),
    ("text/plain", SHAPES[0]),
    ("application/senml+json", orjson.dumps(PACK)),
    ("application/senml+cbor", cbor2.dumps([{-2: "child-1:", -3: 1.7639e9, 0: "a", 2: 2.5}, {0: "b", 6: -5, 3: "x"}])),
    ("application/vnd.apache.arrow.stream", stream({"metric": ["a", "b"], "value": [1.0, 2.0]})),
]


@pytest.mark.parametrize("payload", EVIL, ids=lambda p: repr(p[:40]))
def test_a_payload_alone_and_among_others_is_decoded_by_the_law(payload: bytes) -> None:
    decoder = Decoder(few=1)
    assert_lawful(decoder, [payload])
    assert_lawful(decoder, [payload, payload, b'{"a":1}', payload])
    assert_lawful(decoder, [payload, payload])


def test_all_evil_payloads_in_one_batch_leave_each_other_alone() -> None:
    decoder = Decoder(few=1)
    for payloads in (EVIL, EVIL[::-1], EVIL + EVIL, SHAPES + EVIL + SHAPES):
        assert_lawful(decoder, payloads)


def test_deep_and_large_payloads_are_decoded_by_the_law() -> None:
    decoder = Decoder(few=1)
    for _ in range(2):
        assert_lawful(decoder, DEEP + LARGE + SHAPES)


def test_numbers_have_the_same_bits_however_they_are_parsed() -> None:
    r = random.Random(5)
    decoder = Decoder(few=1)
    for _ in range(10):
        long = [
            b"%d.%d" % (r.randrange(10 ** r.randrange(1, 9)), r.randrange(10 ** r.randrange(1, 18))) for _ in range(300)
        ]
        whole = [b"%d" % (r.randrange(10 ** r.randrange(1, 20)) * r.choice((-1, 1))) for _ in range(300)]
        full = [repr(r.gauss(0, 10 ** r.randrange(-3, 20))).encode() for _ in range(400)]
        short = [repr(r.random() * 10 ** r.randrange(-3, 9))[: r.randrange(3, 19)].encode() for _ in range(500)]
        assert_lawful(decoder, [b'{"a":%s}' % number for number in long + whole + full + short])


def test_usual_payloads_go_by_the_batch_path() -> None:
    names = Names()
    templates = Templates(names)
    payloads = batch(SHAPES * 2).column("payload")
    for _ in range(2):
        templates.next_batch()
        answer = fast.answer(payloads, np.ones(len(payloads), bool), templates)
        assert answer.done.tolist() == list(range(len(payloads)))


def fuzz(seed: int, payloads: int) -> None:
    """Mutated payloads in batches of several sizes, by decoders that know much and by ones that know nothing."""
    r = random.Random(seed)
    decoder = Decoder(few=1)
    base: list[tuple[str | None, bytes]] = [(None, payload) for payload in [*SHAPES * 20, *EVIL]]
    base += [(kind, payload) for kind, payload in OTHERS for _ in range(5)]
    done = 0
    while done < payloads:
        some = r.choices(base, k=r.choice([1, 2, 5, 40])) * r.choice([1, 2])
        found = [mutated(r, payload) for _, payload in some]
        assert_lawful(decoder, found, [kind for kind, _ in some])
        done += len(found)
        if r.random() < 0.02:
            decoder = Decoder(few=1)


def test_mutated_payloads_are_decoded_by_the_law() -> None:
    fuzz(seed=1, payloads=3_000)


@pytest.mark.chaos
def test_ten_thousand_mutated_payloads_for_each_of_ten_seeds() -> None:
    seed = int(os.environ.get("SEED", "1"))
    for more in range(10):
        fuzz(seed=seed + more, payloads=10_000)


_names = st.sampled_from(["a", "b", "ts", "seq", "boot", "device", "a.b", "k k", "", "é"])
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["child-1", "dev-1", "2026-11-23T14:00:00Z", "0", ":1"]),
)
_values = st.recursive(_leaves, lambda inner: st.dictionaries(_names, inner, max_size=4) | st.lists(inner, max_size=3))
_objects = st.dictionaries(_names, _values, max_size=5)


def _written(value: object, r: random.Random) -> bytes:
    return json.dumps(value, ensure_ascii=r.random() < 0.5, separators=r.choice([(",", ":"), (", ", ": ")])).encode()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(_objects, st.lists(_objects, max_size=3), _values), min_size=1, max_size=6), st.randoms())
def test_any_json_is_decoded_by_the_law(values: list[object], r: random.Random) -> None:
    decoder = Decoder(few=1)
    payloads = [_written(value, r) for value in values] * 2
    assert_lawful(decoder, payloads)
    assert_lawful(decoder, payloads)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_any_bytes_are_decoded_by_the_law(payloads: list[bytes]) -> None:
    assert_lawful(Decoder(few=1), payloads)
