"""SenML, with the examples of RFC 8428 and what its rules say at their edges."""

from typing import Any

import cbor2
import orjson
import pytest

from streams.access.decode import Decoder
from streams.access.decode.formats import senml_cbor, senml_json
from streams.access.decode.limits import Invalid
from streams.access.decode.message import NO_TIME
from tests.access.decode.payloads import RECEIVED_MS, batch, fates

NOW_MS = 1_276_020_100_000
OW = "ow-10e2073a01080063"
LABELS = {name: label for label, name in senml_cbor.LABELS.items()}


def of_json(pack: Any) -> list[tuple[Any, ...]]:
    """(child, metric, time, value or text) of each reading."""
    return _short(senml_json.decode(orjson.dumps(pack), NOW_MS).readings)


def of_cbor(pack: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    named = [{LABELS.get(label, label): value for label, value in record.items()} for record in pack]
    return _short(senml_cbor.decode(cbor2.dumps(named), NOW_MS).readings)


def _short(readings: list[Any]) -> list[tuple[Any, ...]]:
    return [(child, metric, time, value if text is None else text) for metric, value, text, time, child in readings]


BASE_MS = 1_276_020_076_001
EXAMPLES: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "5.1.1 single data point": (
        [{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1}],
        [(OW, "value", NO_TIME, 23.1)],
    ),
    "5.1.2 multiple data points": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "u": "A", "v": 1.2},
        ],
        [(OW, "voltage", NO_TIME, 120.1), (OW, "current", NO_TIME, 1.2)],
    ),
    "5.1.2 with times before the base": (
        [
            {
                "bn": "urn:dev:ow:10e2073a0108006:",
                "bt": 1.276020076001e09,
                "bu": "A",
                "bver": 5,
                "n": "voltage",
                "u": "V",
                "v": 120.1,
            },
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "current", "t": -4, "v": 1.3},
            {"n": "current", "v": 1.7},
        ],
        [
            ("ow-10e2073a0108006", "voltage", BASE_MS, 120.1),
            ("ow-10e2073a0108006", "current", BASE_MS - 5000, 1.2),
            ("ow-10e2073a0108006", "current", BASE_MS - 4000, 1.3),
            ("ow-10e2073a0108006", "current", BASE_MS, 1.7),
        ],
    ),
    "5.1.3 base name, time and unit, each record of another quantity": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063", "bt": 1.320067464e09, "bu": "%RH", "v": 20},
            {"u": "lon", "v": 24.30621},
            {"v": 20.3, "t": 60},
        ],
        [
            (OW, "value", 1_320_067_464_000, 20),
            (OW, "value", 1_320_067_464_000, 24.30621),
            (OW, "value", 1_320_067_524_000, 20.3),
        ],
    ),
    "5.1.5 different data types": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "temp", "u": "Cel", "v": 23.1},
            {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False},
            {"n": "nfc-reader", "vd": "aGkgCg"},
        ],
        [
            (OW, "temp", NO_TIME, 23.1),
            (OW, "label", NO_TIME, "Machine Room"),
            (OW, "open", NO_TIME, 0.0),
            (OW, "nfc-reader", NO_TIME, "aGkgCg"),
        ],
    ),
    "5.1.6 collection of resources, with names that are device ids": (
        [
            {"bn": "2001-db8--2/", "n": "temperature", "v": 25.2},
            {"n": "humidity", "v": 30},
            {"bn": "2001-db8--1/", "n": "temperature", "v": 12.3},
            {"n": "humidity", "v": 67},
        ],
        [
            ("2001-db8--2", "temperature", NO_TIME, 25.2),
            ("2001-db8--2", "humidity", NO_TIME, 30),
            ("2001-db8--1", "temperature", NO_TIME, 12.3),
            ("2001-db8--1", "humidity", NO_TIME, 67),
        ],
    ),
    "5.1.7 setting an actuator": (
        [{"bn": "urn:dev:ow:10e2073a01080063:"}, {"n": "temp", "u": "Cel", "v": 23.1}],
        [(OW, "temp", NO_TIME, 23.1)],
    ),
    "base value and base sum are added, and count where a record has none": (
        [{"bn": "meter:", "bv": 100, "bs": 1000, "n": "a", "v": 5}, {"n": "b", "s": 7}, {"bv": -1, "n": "c", "v": 0.5}],
        [
            ("meter", "a", NO_TIME, 105),
            ("meter", "a.sum", NO_TIME, 1000),
            ("meter", "b", NO_TIME, 100),
            ("meter", "b.sum", NO_TIME, 1007),
            ("meter", "c", NO_TIME, -0.5),
            ("meter", "c.sum", NO_TIME, 1000),
        ],
    ),
    "a sum alone": ([{"n": "energy", "s": 12.5}], [(None, "energy.sum", NO_TIME, 12.5)]),
    "times below 2^28 are relative to when it was received": (
        [{"n": "a", "v": 1, "t": 0}, {"n": "a", "v": 2, "t": -5}, {"n": "a", "v": 3, "t": 2**28 - 1}],
        [
            (None, "a", NOW_MS, 1),
            (None, "a", NOW_MS - 5000, 2),
            (None, "a", NOW_MS + (2**28 - 1) * 1000, 3),
        ],
    ),
    "times from 2^28 are absolute": ([{"n": "a", "v": 1, "t": 2**28}], [(None, "a", 2**28 * 1000, 1)]),
    "a base time that is replaced": (
        [{"bt": 3e8, "n": "a", "v": 1}, {"bt": 4e8, "n": "a", "v": 2, "t": 0.25}],
        [(None, "a", 300_000_000_000, 1), (None, "a", 400_000_000_250, 2)],
    ),
    "update time and unknown fields are read over": (
        [{"n": "a", "v": 1, "ut": 5, "future": [1, 2]}],
        [(None, "a", NO_TIME, 1)],
    ),
    "names": (
        [
            {"n": "kitchen/air/co2", "v": 1},
            {"n": "urn:dev:mac:0024BEFFFE804FF1:a/b", "v": 2},
            {"n": "urn:dev:ow:10e2_door", "v": 3},
            {"n": "kitchen:", "v": 4},
            {"n": "room.temp_1", "v": 5},
        ],
        [
            ("kitchen", "air.co2", NO_TIME, 1),
            ("mac-0024befffe804ff1", "a.b", NO_TIME, 2),
            ("ow-10e2", "door", NO_TIME, 3),
            ("kitchen", "value", NO_TIME, 4),
            (None, "room.temp_1", NO_TIME, 5),
        ],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pack_is_resolved(name: str) -> None:
    pack, expected = EXAMPLES[name]
    assert of_json(pack) == expected
    raw = [{k: b"hi \n" if k == "vd" else v for k, v in record.items()} for record in pack]
    assert of_cbor(raw) == expected


def test_the_cbor_example_of_the_rfc_is_resolved() -> None:
    """RFC 8428, section 6: the pack of 5.1.2 in bytes."""
    payload = bytes.fromhex(
        "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120050067766f"
        "6c7461676501615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e7406"
        "2302fb3ff4cccccccccccda3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00a300"
        "6763757272656e74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333333333"
    )
    found = _short(senml_cbor.decode(payload, NOW_MS).readings)
    child = "ow-10e2073a0108006"
    assert found[0] == (child, "voltage", BASE_MS, 120.1)
    assert [(metric, time - BASE_MS, value) for _, metric, time, value in found[1:]] == [
        ("current", -5000, 1.2),
        ("current", -4000, 1.3),
        ("current", -3000, 1.4),
        ("current", -2000, 1.5),
        ("current", -1000, 1.6),
        ("current", 0, 1.7),
    ]


REFUSED = {
    "senml": [
        {},
        [],
        [1],
        [{"n": "a", "v": "1"}],
        [{"n": "a", "v": True}],
        [{"n": "a", "v": None}],
        [{"n": 5, "v": 1}],
        [{"n": "a", "v": 1, "vs": "x"}],
        [{"n": "a", "vb": 1}],
        [{"n": "a", "vd": "no base64!"}],
        [{"n": "a", "vd": 5}],
        [{"n": "a", "v": 1, "bver": 11}],
        [{"n": "a", "v": 1, "bver": "5"}],
        [{"n": "a", "v": 1, "bver": 5}, {"n": "a", "v": 1, "bver": 6}],
        [{"n": "a", "v": 1, "must_": 1}],
        [{"n": "a", "v": 1, "u": 5}],
        [{"n": "a", "v": 1, "t": "now"}],
    ],
    "metric_name": [
        [{"v": 1}],
        [{"n": "", "v": 1}],
        [{"n": "a b", "v": 1}],
        [{"n": ":a", "v": 1}],
        [{"n": "a:b//c", "v": 1}],
        [{"n": "é", "v": 1}],
        [{"n": "urn:uuid:5", "v": 1}],
        [{"n": "a" * 65, "v": 1}],
        [{"n": "a:" + "b/" * 100 + "c", "v": 1}],
    ],
    "device": [[{"n": "Kit.chen:a", "v": 1}], [{"n": "a_b:c", "v": 1}], [{"n": "a" * 65 + ":b", "v": 1}]],
    "number": [[{"n": "a", "v": 1e300}], [{"n": "a", "v": 2**63}], [{"n": "a", "bv": 9e18, "v": 9e18}]],
    "ts": [[{"n": "a", "v": 1, "t": 1e300}], [{"n": "a", "v": 1, "bt": -1e15, "t": 0}]],
    "shape": [[{"bn": "a:"}], [{"n": "a", "v": 1}] * 10_001],
}


@pytest.mark.parametrize(("rule", "pack"), [(rule, pack) for rule, packs in REFUSED.items() for pack in packs])
def test_a_pack_that_breaks_a_rule_is_refused_by_that_rule(rule: str, pack: Any) -> None:
    with pytest.raises(Invalid, match=f"^{rule}: "):
        of_json(pack)


def test_numbers_that_json_cannot_say_are_refused_in_cbor() -> None:
    for value in (float("nan"), float("inf"), -float("inf"), 2**64, -(2**3000)):
        with pytest.raises(Invalid, match=r"^(senml|number): "):
            of_cbor([{"n": "a", "v": value}])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81",
        b"\x80\x00",
        b"\x81" * 100_000,
        b"\x9b" + b"\x7f" * 8,
        b"\x5b\x00\x00\x00\x00\x40\x00\x00\x00",
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that holds itself
        b"\x81\xa1\x00\x62\xff\xff",  # no UTF-8
        b"\x81\xa1\x80\x01",  # a label that is a list
        b"\x81\xa1\x02\xc4\x82\x1a\x7f\xff\xff\xff\x01",  # a decimal of two billion digits
        b"\x81\xa1\x02\xc2\x5a\x00\x01\x00\x00" + b"\xff" * 65_536,  # an integer of half a million bits
        b"\x81\xa2\x61n\x61a\x02\x01",  # a label of JSON
        b'[{"n":"a","v":1}]',
    ],
    ids=lambda p: p[:12].hex(),
)
def test_bytes_that_are_no_senml_in_cbor_are_refused(payload: bytes) -> None:
    with pytest.raises(Invalid, match=r"^(cbor|senml|shape|metric_name): "):
        senml_cbor.decode(payload, NOW_MS)


def test_the_content_type_chooses_the_format_and_the_property_dates_records_without_time() -> None:
    pack = [{"bn": "dev-1:", "n": "a", "v": 1}, {"bn": "child-1:", "n": "a", "v": 2, "t": -5}]
    rows = batch(
        [orjson.dumps(pack), cbor2.dumps([{0: "a", 2: 1}]), b'{"a":1}', orjson.dumps(pack)],
        content_type=["application/senml+json", "Application/SenML+CBOR; x=1", None, "application/json"],
        ts=["5000", None, None, None],
        boot=["1", None, None, None],
        seq=["2", None, None, None],
    )
    for few in (1, 100):
        found = fates(Decoder(few).decode(rows))
        assert found[0][:2] == (1, 2)
        assert [reading[:4] for reading in found[0][2]] == [
            (0, None, "a", 5000),
            (1, "child-1", "a", RECEIVED_MS - 5000),
        ]
        assert found[1][2][0][1:4] == (None, "a", RECEIVED_MS + 1)
        assert found[2][2][0][1:4] == (None, "a", RECEIVED_MS + 2)
        assert [reading[2] for reading in found[3][2]] == ["bn", "n", "v", "bn", "n", "v", "t"]
