"""Lines of mosquitto's log. All but the last forged one were captured from mosquitto 2.0.11, the Debian package."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mqtt.core.connects import MOST_BYTES, ConnectionEvent, parse, platform_row
from schemas.topics import is_device_id
from schemas.vocabulary import Transport

STAMP = "2026-11-25T15:42:00: "

EVENTS = {
    "New client connected from 127.0.0.1:55513 as sensor-1 (p5, c1, k60).": ("sensor-1", True, "127.0.0.1:55513"),
    "New client connected from 127.0.0.1:33571 as sensor-2 (p2, c1, k60).": ("sensor-2", True, "127.0.0.1:33571"),
    "New client connected from 127.0.0.1:42597 as sensor-77 (p5, c1, k60, u'sensor-77').": (
        "sensor-77", True, "127.0.0.1:42597",
    ),
    "Client sensor-1 disconnected.": ("sensor-1", False, "goodbye"),
    "Client sensor-2 closed its connection.": ("sensor-2", False, "closed"),
    "Client sensor-3 has exceeded timeout, disconnecting.": ("sensor-3", False, "timeout"),
    "Client sensor-5 disconnected due to protocol error.": ("sensor-5", False, "protocol"),
    "Client sensor-6 disconnected due to malformed packet.": ("sensor-6", False, "malformed"),
    "Client sensor-7 disconnected due to oversize packet.": ("sensor-7", False, "oversize"),
}  # fmt: skip

NOTHING = [
    "New connection from 127.0.0.1:55513 on port 31946.",
    "New client connected from /run/millrace/mqtt:0 as millrace.bridge.0 (p5, c0, k0, u'millrace_bridge').",
    "Client millrace.bridge.0 disconnected.",
    "Client <unknown> closed its connection.",
    "Client <unknown> disconnected, not authorised.",
    "Client <unknown> disconnected: Protocol error.",
    "Client sensor-4 already connected, closing old connection.",
    "Bad client sensor-6 sending multiple CONNECT messages.",
    "OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading",
    # ids that clients chose to be taken for others
    "New client connected from 127.0.0.1:46893 as evil id as sensor-9 (p5, c1, k60). (p5, c1, k60).",
    "Client evil id as sensor-9 (p5, c1, k60). disconnected.",
    "New client connected from 127.0.0.1:56133 as Client sensor-1 disconnected. (p5, c1, k60).",
    "Client Client sensor-1 disconnected. disconnected.",
    "New client connected from 127.0.0.1:58845 as sensor-1 disconnected. (p5, c1, k60).",
    "Client sensor-1 disconnected. disconnected.",
    "New client connected from 127.0.0.1:55539 as Größe 1! (p5, c1, k60).",
    "Client Größe 1! disconnected.",
    "New client connected from 127.0.0.1:41629 as New client connected from 1.2.3.4:5 as sensor-1 (p5, c1, k60)."
    " (p5, c1, k60).",
    "New client connected from 127.0.0.1:41629 as sensor-1 (p5, c1, k60, u'x (p5, c1, k60, u'somebody').",
    "Client New client connected from 1.2.3.4:5 as sensor-1 (p5, c1, k60). disconnected.",
    "",
]


@pytest.mark.parametrize("stamp", [STAMP, "1764085320: ", ""])
@pytest.mark.parametrize(("line", "event"), EVENTS.items())
def test_a_line_about_a_device_gives_id_and_reason(line: str, event: tuple[str, bool, str], stamp: str) -> None:
    assert parse((stamp + line).encode()) == ConnectionEvent(*event)


@pytest.mark.parametrize("line", NOTHING)
def test_every_other_line_tells_nothing(line: str) -> None:
    assert parse((STAMP + line).encode()) is None


def test_a_long_line_is_not_looked_at() -> None:
    line = "New client connected from 127.0.0.1:1 as sensor-1 (p5, c1, k60, u'{}').".format
    assert parse(line("x" * 64).encode()) is not None
    assert parse(line("x" * MOST_BYTES).encode()) is None


@given(st.one_of(st.text(), st.from_regex(r"[a-z0-9-]{1,10}( [A-Za-z .:,()']{0,60})?", fullmatch=True)))
def test_no_id_can_speak_for_another(chosen: str) -> None:
    """A client may call itself what it likes: what the broker then logs is about that very id, or of none."""
    for line in (*EVENTS, *NOTHING):
        for known in ("sensor-1", "sensor-2", "sensor-3", "sensor-5", "sensor-6", "sensor-7"):
            if f"as {known} " in line or line.startswith(f"Client {known} "):
                found = parse((STAMP + line.replace(known, chosen, 1)).encode())
                assert found is None or (found.device == chosen and is_device_id(chosen))


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(line: bytes) -> None:
    found = parse(line)
    assert found is None or is_device_id(found.device)


def test_the_row_is_the_platforms_own_and_goes_to_the_devices_partition() -> None:
    came = platform_row(ConnectionEvent("s-1", True, "10.0.0.7:4242"), 17)
    went = platform_row(ConnectionEvent("s-1", False, "timeout"), 18)
    assert came[:3] == (b"s-1", b"p/s-1/connected", b'{"address":"10.0.0.7:4242"}') and came[5] == 17
    assert went[:3] == (b"s-1", b"p/s-1/disconnected", b'{"reason":"timeout"}')
    assert came[4] >> 8 == went[4] >> 8 == Transport.PLATFORM
