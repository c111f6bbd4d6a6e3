"""Route, formats, stamps, limits and credentials: functions of values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.http.core import formats, stamps
from bridge.http.core.credentials import Credentials
from bridge.http.core.formats import Bounds
from bridge.http.core.limits import DeviceLimits
from bridge.http.core.route import Telemetry, resolve
from bridge.http.core.stamps import Stamps
from bridge.http.errors import Refusal
from schemas.control import Device, device_key, read_device, token_hash

BOUNDS = Bounds(body_bytes=10_000, decoded_bytes=10_000, message_bytes=100, messages=100)


def split(kind: str, body: bytes) -> list[bytes]:
    return formats.parse_type(kind).split(body, BOUNDS)


def refused(kind: str, body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        split(kind, body)
    return caught.value


# route


def test_a_telemetry_path_names_device_and_channel() -> None:
    assert resolve("POST", "/v1/devices/sensor-1/telemetry/climate?x=1") == Telemetry("sensor-1", "climate")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/v1/devices/Sensor-1/telemetry/climate", 400),
        ("POST", "/v1/devices/a%2fb/telemetry/climate", 400),
        ("POST", "/v1/devices/a+b/telemetry/climate", 400),
        ("POST", "/v1/devices//telemetry/climate", 400),
        ("POST", "/v1/devices/" + "a" * 65 + "/telemetry/climate", 400),
        ("POST", "/v1/devices/a/telemetry/", 400),
        ("POST", "/v1/devices/a/telemetry/..", 400),
        ("POST", "/v1/devices/a/telemetry/a\nb", 400),
        ("POST", "/v1/devices/a/../b/telemetry/climate", 404),
        ("POST", "/v1/devices/a/telemetry/climate/", 404),
        ("POST", "//v1/devices/a/telemetry/climate", 404),
        ("POST", "/V1/devices/a/telemetry/climate", 404),
        ("POST", "http://host/v1/devices/a/telemetry/climate", 404),
        ("POST", "*", 404),
        ("GET", "/v1/devices/a/telemetry/climate", 405),
        ("POST", "/docs", 405),
    ],
)
def test_other_targets_are_refused(method: str, target: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        resolve(method, target)
    assert caught.value.status == status


# formats


def test_media_types_are_known_with_case_and_charset() -> None:
    assert formats.parse_type('Application/JSON; charset="UTF-8"').media_type == "application/json"
    for wrong in ("", "text/plain", "application/"):
        with pytest.raises(Refusal, match="Content-Type") as caught:
            formats.parse_type(wrong)
        assert caught.value.status == 415


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a":}', {"line": 1, "column": 6, "byte": 5}),
        ('{"ä":}'.encode(), {"line": 1, "column": 6, "byte": 6}),
        (b'{\n"a":1,\n"b":?}', {"line": 3, "column": 5, "byte": 13}),
        (b'{"a":"\xff"}', {"line": 1, "column": 7, "byte": 6}),
        (b'{\n"a":"\xff"}', {"line": 2, "column": 6, "byte": 7}),
        (b'{"a":NaN}', {"line": 1, "column": 6, "byte": 5}),
        (b"1],[2", {"line": 1, "column": 2, "byte": 1}),
        (b"", {"line": 1, "column": 1, "byte": 0}),
    ],
)
def test_broken_json_is_refused_with_its_place(body: bytes, place: dict[str, int]) -> None:
    refusal = refused("application/json", body)
    assert (refusal.status, refusal.place) == (400, place)


def test_deep_json_is_refused_and_not_followed() -> None:
    assert refused("application/json", b"[" * 100).status == 400


def test_ndjson_lines_are_messages_and_blank_lines_are_not() -> None:
    assert split("application/x-ndjson", b'{"a":1}\r\n\n  \r\n{"a": 2}\n3') == [b'{"a":1}', b'{"a": 2}', b"3"]


@given(st.integers(1, 90), st.data())
def test_a_bad_line_is_named_whichever_it_is(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, count - 1))
    lines = [b'{"n":%d}' % i for i in range(count)]
    lines[bad] = b'{"n":'
    refusal = refused("application/x-ndjson", b"\n".join(lines))
    assert (refusal.status, refusal.place["line"]) == (400, bad + 1)
    assert refusal.place["byte"] == sum(len(line) + 1 for line in lines[:bad]) + 5


def test_a_line_cannot_break_out_of_its_line() -> None:
    assert refused("application/x-ndjson", b'{"a":1}{"a":2}\n{"a":3}').place["line"] == 1


def test_an_empty_ndjson_body_is_refused() -> None:
    assert refused("application/x-ndjson", b"\n \n").status == 400


@pytest.mark.parametrize("body", [b"1\n" * 101, b"\n" * 300, b'"' + b"a" * 100 + b'"\n1', b'1\n"' + b"a" * 100 + b'"'])
def test_too_many_messages_or_a_long_one_are_too_large(body: bytes) -> None:
    assert refused("application/x-ndjson", body).status == 413


@given(st.lists(st.integers() | st.text() | st.lists(st.booleans()), min_size=1, max_size=9))
def test_what_json_can_say_comes_out_as_it_went_in(values: list[object]) -> None:
    lines = [json.dumps(value).encode() for value in values]
    bounds = Bounds(10**9, 10**9, 10**9, 100)
    assert formats.parse_type("application/x-ndjson").split(b"\n".join(lines), bounds) == lines


# stamps


def test_seq_of_ndjson_counts_up_and_the_rest_repeats() -> None:
    found = stamps.properties(Stamps(b"7", b"41", b"1000"), b"application/json", 3)
    assert [p.seq for p in found] == [b"41", b"42", b"43"]
    assert {(p.boot, p.ts, p.content_type) for p in found} == {(b"7", b"1000", b"application/json")}


def test_a_seq_that_is_no_number_is_handed_on_as_it_came() -> None:
    assert [p.seq for p in stamps.properties(Stamps(seq=b"x1"), b"j", 2)] == [b"x1", b"x1"]
    assert [p.seq for p in stamps.properties(Stamps(seq=b"007"), b"j", 1)] == [b"007"]


@pytest.mark.parametrize("value", ["", "a" * 65, "ä", "\udcff", "a\tb"])
def test_headers_that_could_not_be_stored_as_text_are_refused(value: str) -> None:
    with pytest.raises(Refusal, match="Millrace-Seq"):
        stamps.parse({"Millrace-Seq": value})


# limits


def test_requests_in_flight_of_a_device_are_bounded() -> None:
    limits = DeviceLimits(requests=2, per_s=100, burst_s=10)
    limits.enter("a", 0.0)
    limits.enter("a", 0.0)
    with pytest.raises(Refusal) as caught:
        limits.enter("a", 0.0)
    assert caught.value.status == 429 and caught.value.headers["Retry-After"] == "2"
    limits.enter("b", 0.0)
    limits.leave("a")
    limits.enter("a", 0.0)


def test_the_rate_of_a_device_is_bounded_after_a_burst() -> None:
    limits = DeviceLimits(requests=1_000, per_s=2, burst_s=10)
    for _ in range(20):
        limits.enter("a", 100.0)
    with pytest.raises(Refusal) as caught:
        limits.enter("a", 100.0)
    assert caught.value.headers["Retry-After"] == "1"
    limits.enter("a", 100.5)
    with pytest.raises(Refusal):
        limits.enter("a", 100.6)
    for _ in range(20):
        limits.enter("a", 111.0)


@given(st.floats(0.01, 1e6), st.floats(1, 3_600))
def test_a_device_that_comes_when_it_was_told_to_is_taken_however_slow_its_rate(per_s: float, burst_s: float) -> None:
    limits, now_s = DeviceLimits(requests=1_000_000, per_s=per_s, burst_s=burst_s), 1_000.0
    taken = refused = 0
    while taken < 5 and refused < 5:
        try:
            limits.enter("a", now_s)
            taken, refused = taken + 1, 0
        except Refusal as refusal:
            refused += 1
            now_s += int(refusal.headers["Retry-After"])
    assert taken == 5, f"refused {refused} times in a row, each time after the wait that was asked for"


def test_devices_that_rest_are_forgotten() -> None:
    limits = DeviceLimits(requests=1, per_s=1, burst_s=1)
    for i in range(30_000):
        limits.enter(f"d{i}", float(i))
        limits.leave(f"d{i}")
    assert len(limits._full_us) <= 10_001 and not limits._flying


# credentials


def known(*devices: Device) -> Credentials:
    credentials = Credentials()
    for device in devices:
        credentials.apply(device_key(device.id).encode(), device.encode())
    return credentials


def test_only_the_token_of_the_device_speaks_for_it() -> None:
    credentials = known(
        Device("a", "meter", token=token_hash("secret-a")), Device("b", "meter", token=token_hash("secret-b"))
    )
    assert credentials.allow("a", "Bearer secret-a")
    assert credentials.allow("a", "bearer  secret-a ")
    for wrong in (
        None,
        "",
        "secret-a",
        "Bearer",
        "Bearer ",
        "Bearer secret-b",
        "Basic secret-a",
        "Bearer \udcff",
        "Bearer ä",
    ):
        assert not credentials.allow("a", wrong)
    assert not credentials.allow("nobody", "Bearer secret-a")


def test_an_empty_token_never_speaks() -> None:
    assert not known().allow("nobody", "Bearer ")
    assert not known(Device("a", "meter", token=token_hash(""))).allow("a", "Bearer ")


@pytest.mark.parametrize("end", [None, Device("a", "meter", state="removed").encode(), Device("a", "meter").encode()])
def test_a_token_ends_by_removal_by_tombstone_and_by_taking_it_away(end: bytes | None) -> None:
    credentials = known(Device("a", "meter", token=token_hash("s")))
    credentials.apply(b"device/a", end)
    assert not credentials.allow("a", "Bearer s") and len(credentials) == 0


def test_a_broken_record_ends_its_device_and_says_so() -> None:
    credentials = known(Device("a", "meter", token=token_hash("s")), Device("b", "meter", token=token_hash("s")))
    assert "not valid JSON" in (credentials.apply(b"device/a", b"{") or "")
    assert not credentials.allow("a", "Bearer s") and credentials.allow("b", "Bearer s")
    assert credentials.apply(b"policy", b"{") is None


def test_a_token_that_is_no_text_in_the_record_is_no_token() -> None:
    credentials = known()
    credentials.apply(b"device/a", b'{"id":"a","role":"meter","token":5}')
    assert not credentials.allow("a", "Bearer 5")


@given(
    st.binary(max_size=8), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3), st.integers(0, 400)
)
def test_the_quick_way_reads_a_record_as_the_slow_one_does(noise: bytes, labels: dict[str, str], at: int) -> None:
    value = Device("a", "meter", labels=labels, token=token_hash("s")).encode()
    value = value[:at] + noise + value[at + len(noise) :]
    found, _ = read_device("device/a", value)
    speaks = found.is_active and found.token == token_hash("s")
    credentials = known()
    credentials.apply(b"device/a", value)
    assert credentials.allow("a", "Bearer s") == speaks


def test_changes_that_were_merged_and_later_ones_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.http.core.credentials._RECENT", 7)
    credentials, expected = known(), dict[str, str | None]()
    for n in range(300):
        name, token = f"d-{n * n % 40}", None if n % 3 == 0 else str(n)
        device = Device(name, "meter", token=None if token is None else token_hash(token))
        credentials.apply(device_key(name).encode(), device.encode())
        expected[name] = token
        if n > 100:  # loaded: from here on it is counted as it changes
            assert len(credentials) == sum(token is not None for token in expected.values())
    for name, token in expected.items():
        assert credentials.allow(name, f"Bearer {token}") is (token is not None)
