"""Whatever is sent: no service dies, and each message ends where it belongs, with its bytes."""

import os
import random
import time
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pyarrow as pa
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from schemas import ipc
from tests.access.decode.payloads import EVIL, mutated
from tests.chaos.running import Running

SEED = int(os.environ.get("SEED", "1"))
TYPES = (None, "application/json", "application/senml+json", "application/senml+cbor", "text/plain")
ARROW = "application/vnd.apache.arrow.stream"
STREAM = ipc.encode(pa.RecordBatch.from_pydict({"metric": ["t"], "value": [1.0]}))
TOPICS = (
    "telemetry/climate",
    "telemetry/климат",
    "telemetry",
    "telemetry/a/b",
    "event/x",
    "nothing",
    "telemetry/",
    "$x/y",
)

Fate = str
NAMED: list[tuple[str, bytes, str | None, Fate]] = [
    ("truncated Arrow", STREAM[:-60], ARROW, "dead_letters"),
    ("whole Arrow", STREAM, ARROW, "readings"),
    ("deep JSON", b"[" * 100_000 + b"]" * 100_000, None, "dead_letters"),
    ("invalid UTF-8", b'{"a":"\xff"}', None, "dead_letters"),
    ("NaN", b'{"a":NaN}', None, "dead_letters"),
    ("infinity", b'{"a":-Infinity}', None, "dead_letters"),
    ("too large a number", b'{"a":1e400}', None, "dead_letters"),
    ("beyond 2^63", b'{"a":9223372036854775808}', None, "dead_letters"),
    ("1970", b'{"ts":1000,"a":1}', None, "denied"),
    ("2100", b'{"ts":4102444800000,"a":1}', None, "denied"),
    ("duplicate keys", b'{"a":1,"a":2}', None, "readings"),
    ("break out of a joined parse", b'1],[{"a":1}', None, "dead_letters"),
    ("two objects", b'{"a":1},{"b":2}', None, "dead_letters"),
    ("empty", b"", None, "dead_letters"),
    ("a megabyte of text", b'{"a":"' + b"x" * 1_400_000 + b'"}', None, "readings"),
]


class Sender:
    """One device that numbers whatever it sends by user properties, and waits for each PUBACK."""

    def __init__(self, device: str, address: tuple[str, int]) -> None:
        self.device, self.sent = device, 0
        self.refused: list[ReasonCode] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(500)
        self._client.on_publish = self._on_publish
        self._client.connect(*address, clean_start=True)
        self._client.loop_start()

    def _on_publish(self, _client: object, _data: object, _mid: int, code: ReasonCode, *_: object) -> None:
        if code.is_failure:
            self.refused.append(code)

    def send(self, payload: bytes, content_type: str | None = None, topic: str | None = None) -> int:
        """The seq that the message got."""
        properties = Properties(PacketTypes.PUBLISH)
        if content_type:
            properties.ContentType = content_type
        properties.UserProperty = [("boot", "1"), ("seq", str(self.sent))]
        topic = topic or f"d/{self.device}/telemetry/climate"
        self._last = self._client.publish(topic, payload, qos=1, properties=properties)
        self.sent += 1
        return self.sent - 1

    def finish(self) -> None:
        self._last.wait_for_publish(60)
        self._client.disconnect()
        self._client.loop_stop()


def _fates(running: Running, device: str) -> dict[int, list[tuple[str, bytes]]]:
    """seq → (table, payload) of every message of the device; readings of one message count once."""
    found: dict[int, list[tuple[str, bytes]]] = {}
    client = running.clickhouse()
    for table, payload in (("readings", "''"), ("denied", "hex(payload)"), ("dead_letters", "hex(payload)")):
        query = f"SELECT seq, {payload} FROM {table} WHERE publisher = {{device:String}} GROUP BY 1, 2"
        for seq, body in client.query(query, parameters={"device": device}).result_rows:
            found.setdefault(seq, []).append((table, bytes.fromhex(body or "")))
    return found


def _restarts(running: Running) -> dict[str, int]:
    return {s["name"]: s["restarts"] for s in running.status()["services"] if s["restarts"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("bad") / "data") as found:
        yield found


@pytest.mark.long
def test_each_kind_of_bad_input_ends_where_it_belongs_with_its_bytes(running: Running) -> None:
    sender = Sender("bad-1", running.endpoint("mqtt"))
    wanted = {sender.send(payload, content_type): (name, payload, fate) for name, payload, content_type, fate in NAMED}
    sender.send(b'{"a":1}', topic="d/somebody-else/telemetry/climate")
    sender.finish()
    ledger = running.wait_quiet(at_least=len(NAMED))
    found = _fates(running, "bad-1")
    for seq, (name, payload, fate) in wanted.items():
        assert [table for table, _ in found.get(seq, [])] == [fate], name
        assert fate == "readings" or found[seq][0][1] == payload, name
    assert len(sender.refused) == 1, "the forged topic was not refused by the broker"
    assert ledger["messages"]["difference"] == 0
    assert _restarts(running) == {}


def _fuzz(running: Running, device: str, count: int) -> None:
    r = random.Random(SEED)
    sender = Sender(device, running.endpoint("mqtt"))
    sent: dict[int, bytes] = {}
    before = running.ledger()["messages"]["received"]
    for number in range(count):
        base = r.choice(EVIL)
        payload = (
            r.randbytes(r.randrange(200)) if r.random() < 0.2 else mutated(r, base if len(base) < 20_000 else b"{")
        )
        topic = f"d/{device}/{r.choice(TOPICS)}" if r.random() < 0.2 else None
        if r.random() < 0.1:
            payload, kind = STREAM[: r.randrange(len(STREAM))], ARROW
            sent[sender.send(payload, kind, topic)] = payload
        else:
            sent[sender.send(payload, r.choice(TYPES), topic)] = payload
        if number % 500 == 499:
            time.sleep(0.5)
    sender.finish()
    ledger = running.wait_quiet(at_least=before + count)
    found = _fates(running, device)
    events = count - len(found)
    assert {seq: where for seq, where in found.items() if len({t for t, _ in where}) != 1} == {}
    assert {seq: 1 for seq, [(table, body), *_] in found.items() if table != "readings" and body != sent[seq]} == {}
    print(f"\n{count} inputs: {len(found)} found by number, {events} without a row of their own; {ledger['messages']}")
    assert ledger["messages"]["difference"] == 0
    assert ledger["messages"]["received"] == before + count
    assert _restarts(running) == {}


@pytest.mark.long
def test_fuzzed_payloads_and_topics_kill_nothing_and_are_all_accounted_for(running: Running) -> None:
    _fuzz(running, "fuzz-1", 300)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_ten_thousand_fuzzed_inputs(running: Running) -> None:
    _fuzz(running, "fuzz-2", 10_000)
