"""The protocol alone: however the socket cuts the bytes, each message is taken once, in order, and acknowledged."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from gmqtt.mqtt.utils import ConnectionState, IdGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.intake import Intake, Limits
from bridge.core.rows import WIDTH
from bridge.mqtt import metrics
from bridge.mqtt.gmqtt_fast import PublishProtocol
from bridge.mqtt.link import Link
from bridge.settings import WriterSettings
from bridge.writer import Writer
from runtime.errors import FatalError
from runtime.mqtt import Publish, encode
from runtime.mqtt.wire import packet

PINGRESP = b"\xd0\x00"
USER = {"ts": 1, "boot": 2, "seq": 3}


@dataclass(frozen=True)
class Message:
    topic: bytes
    payload: bytes
    qos: int
    packet_id: int
    user: dict[str, str] = field(default_factory=dict)
    retain: bool = False

    def packet(self) -> bytes:
        properties = {"user_property": tuple(self.user.items())} if self.user else {}
        return encode(Publish(self.topic, self.payload, self.qos, self.packet_id, self.retain, properties=properties))


class Transport(asyncio.Transport):
    """A socket that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.reading = False


class Refused:
    """Error and message of a delivery report."""

    def str(self) -> str:
        return "Broker: Message size too large"

    def partition(self) -> int:
        return 0


class Kafka:
    """Takes records; acknowledges them when asked to."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[..., None]] = []
        self.headers: list[tuple[str, bytes]] = []
        self.full = False
        self.refuses = False

    def produce(
        self, topic: str, value: bytes, on_delivery: Callable[..., None], headers: list[tuple[str, bytes]], **_: Any
    ) -> None:
        if self.full:
            raise BufferError
        self.headers = [(key, text) for key, text in headers if key in ("rows", "platform")]
        self.callbacks.append(on_delivery)

    def poll(self, timeout: float) -> int:
        if self.refuses:
            self.callbacks[0](Refused(), Refused())
        return 0

    def __len__(self) -> int:
        return len(self.callbacks)

    def acknowledge(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback(None, None)


class Connection:
    """Stands for gmqtt's: what is no PUBLISH ends here."""

    def __init__(self) -> None:
        self.packages: list[Any] = []
        self._last_data_in = self._last_data_out = 0.0

    def put_package(self, package: Any) -> None:
        self.packages.append(package)


class Bench:
    """A protocol with its surroundings, on a running loop."""

    def __init__(self, **limits: int) -> None:
        self.kafka = Kafka()
        self.fatal: list[BaseException] = []
        intake = Intake(1, Limits(**{"payload_bytes": 5_000} | limits))
        on_fatal = partial(lambda error, where: self.fatal.append(error))
        self.writer = Writer(intake, self.kafka, WriterSettings(linger_ms=5_000), on_fatal)  # type: ignore[arg-type]
        self.link = Link(self.writer, 0.0, on_fatal)
        self.transport = Transport()
        self.connection = Connection()
        self.protocol = PublishProtocol(link=self.link, connection_state=ConnectionState(), id_generator=IdGenerator())
        self.protocol.connection_made(self.transport)
        self.protocol.set_connection(self.connection)

    def feed(self, stream: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(stream)]
        for start, end in pairwise(edges):
            if end > start:
                self.protocol.data_received(stream[start:end])

    def rows(self) -> list[tuple[Any, ...]]:
        flat = self.writer.intake.rows[0]
        return [tuple(flat[i : i + WIDTH]) for i in range(0, len(flat), WIDTH)]

    def acknowledge(self) -> None:
        """Kafka takes all that is there."""
        self.writer.close()
        self.kafka.acknowledge()
        self.writer._poll()

    def close(self) -> None:
        for timer in (self.writer._tick, self.writer._linger):
            if timer is not None:
                timer.cancel()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(asyncio.sleep(0))
    made.close()


def _run(loop: asyncio.AbstractEventLoop, work: Callable[[Bench], None], **limits: int) -> None:
    async def inside() -> None:
        bench = Bench(**limits)
        try:
            work(bench)
        finally:
            bench.close()

    loop.run_until_complete(inside())


TOPIC = st.sampled_from([b"d/a/telemetry/x", b"d/b-1/event/y", b"d", b"d/" + b"l" * 300 + b"/config"])
SIZE = st.one_of(st.integers(0, 300), st.sampled_from([110, 127, 128, 5_000, 16_383, 16_384, 20_000]))
VALUE = st.text(max_size=60)
MESSAGE = st.builds(
    Message,
    TOPIC,
    SIZE.map(lambda n: bytes(i * 7 & 255 for i in range(n))),
    st.integers(0, 1),
    st.integers(1, 65_535),
    st.dictionaries(st.sampled_from(["ts", "boot", "seq", "ack", "other"]), VALUE, max_size=5),
    st.booleans(),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(MESSAGE, st.just(None)), max_size=12), st.data())
def test_any_segmentation_gives_the_same_messages(
    loop: asyncio.AbstractEventLoop, stream: list[Message | None], data: st.DataObject
) -> None:
    raw = b"".join(PINGRESP if m is None else m.packet() for m in stream)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=30))
    messages = [m for m in stream if m is not None]

    def work(bench: Bench) -> None:
        bench.feed(raw, cuts)
        assert not bench.fatal
        got = bench.rows()
        assert [(r[1], r[2], r[4]) for r in got] == [(m.topic, m.payload, m.packet()[0]) for m in messages]
        for row, message in zip(got, messages, strict=True):
            for key, position in USER.items():
                found = row[3][position] if row[3] is not None else None
                assert found == (message.user[key].encode() if key in message.user else None)
        assert len(bench.connection.packages) == stream.count(None)
        assert bench.transport.written == b""
        bench.acknowledge()
        wanted = b"".join(b"@\x02" + m.packet_id.to_bytes(2, "big") for m in messages if m.qos)
        assert bench.transport.written == wanted

    _run(loop, work)


def test_a_byte_at_a_time(loop: asyncio.AbstractEventLoop) -> None:
    messages = [Message(b"d/a/config", bytes(n), n & 1, n + 1) for n in (0, 1, 125, 126, 127, 128, 300)]
    raw = b"".join(m.packet() for m in messages)

    def work(bench: Bench) -> None:
        bench.feed(raw, list(range(len(raw))))
        assert [r[2] for r in bench.rows()] == [m.payload for m in messages]

    _run(loop, work)


@pytest.mark.parametrize("step", [1000, 70_000, 250_000])
def test_a_giant_is_not_kept_but_its_beginning_is(loop: asyncio.AbstractEventLoop, step: int) -> None:
    giant = Message(b"d/a/event/dump", b"g" * 1_000_000, 1, 9, {"boot": "1", "seq": "2", "ack": "1"})
    raw = Message(b"d/a/config", b"1", 1, 8).packet() + giant.packet() + Message(b"d/a/config", b"3", 1, 10).packet()

    def work(bench: Bench) -> None:
        bench.feed(raw, list(range(step, len(raw), step)))
        first, cut, last = bench.rows()
        assert (first[2], last[2]) == (b"1", b"3")
        assert cut[2] == b"g" * 1024 and cut[3].content_type == b"application/vnd.millrace.cut"
        assert (cut[3].boot, cut[3].seq) == (b"1", b"2")
        assert bench.link.intake.held_bytes < 600_000
        bench.acknowledge()
        assert bench.transport.written == b"@\x02\x00\x08@\x02\x00\x09@\x02\x00\x0a"

    _run(loop, work)


def test_a_giant_of_properties_is_survived(loop: asyncio.AbstractEventLoop) -> None:
    giant = Message(b"d/a/config", b"", 1, 9, {f"k{n}": "v" * 60_000 for n in range(40)})

    def work(bench: Bench) -> None:
        bench.feed(giant.packet() + PINGRESP, [100_000])
        assert not bench.fatal and len(bench.connection.packages) == 1
        ((_, topic, payload, properties, _, _),) = bench.rows()
        assert topic == b"d/a/config" and len(payload) <= 1024 and properties.content_type is not None

    _run(loop, work)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x32\x04\x00\x09ab",  # a topic longer than its packet
        b"\x32\x06\x00\x01a\x00\x01\x09",  # properties longer than their packet
        b"\x30\xff\xff\xff\xff\x01" + bytes(10),  # a length of five bytes
        b"\x34\x06\x00\x01a\x00\x01\x00",  # QoS 2, which nobody subscribed to
        b"\x32\x00",
    ],
)
@pytest.mark.parametrize("after", [b"", PINGRESP, Message(b"d/a/config", b"x" * 50, 1, 2).packet()])
def test_what_breaks_the_protocol_is_fatal_and_never_acknowledged(
    loop: asyncio.AbstractEventLoop, packet: bytes, after: bytes
) -> None:
    def work(bench: Bench) -> None:
        bench.feed(packet + after, [])
        assert isinstance(bench.fatal[0], FatalError)
        assert bench.transport.written == b""

    _run(loop, work)


def test_malformed_properties_lose_themselves_and_not_the_message(loop: asyncio.AbstractEventLoop) -> None:
    body = b"\x00\x0ad/a/config" + b"\x00\x01" + b"\x03\x26\x00\x09" + b"payload"

    def work(bench: Bench) -> None:
        bench.feed(packet(0x32, body), [])
        ((_, _, payload, properties, _, _),) = bench.rows()
        assert payload == b"payload" and properties is None and bench.link.properties.malformed == 1

    _run(loop, work)


def test_acknowledgements_die_with_their_connection(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.feed(Message(b"d/a/config", b"1", 1, 5).packet(), [])
        bench.protocol.connection_lost(None)
        bench.acknowledge()
        assert bench.transport.written == b"" and bench.link.intake.held_bytes == 0

    _run(loop, work)


def test_over_budget_qos_0_is_dropped_first_then_reading_stops_and_goes_on(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.feed(Message(b"d/a/config", bytes(9_000), 1, 1).packet(), [])
        assert bench.transport.reading
        bench.feed(Message(b"d/a/config", b"zero", 0, 0).packet(), [])
        bench.feed(Message(b"d/a/config", bytes(2_000), 1, 2).packet(), [])
        assert len(bench.rows()) == 2 and not bench.transport.reading
        bench.acknowledge()
        assert bench.transport.reading
        bench.feed(Message(b"d/a/config", b"zero", 0, 0).packet(), [])
        assert len(bench.rows()) == 1

    _run(loop, work, budget_bytes=10_000, payload_bytes=100_000)


LOG = b"$SYS/broker/log/N"


def test_connects_take_their_place_among_messages_and_are_no_messages(loop: asyncio.AbstractEventLoop) -> None:
    stream = [
        Message(LOG, b"2026-11-25T15:42:00: New connection from 127.0.0.1:1 on port 1.", 0, 0),
        Message(LOG, b"2026-11-25T15:42:00: New client connected from 127.0.0.1:1 as a (p5, c1, k60).", 0, 0),
        Message(b"d/a/config", b"1", 1, 1),
        Message(LOG, b"2026-11-25T15:42:01: Client a closed its connection.", 0, 0),
        Message(b"d/a/event/offline", b"", 1, 2),
    ]
    raw = b"".join(m.packet() for m in stream)

    def work(bench: Bench) -> None:
        bench.link.listen(LOG.decode())
        bench.feed(raw, [5, 100, 101, 300])
        assert [row[1] for row in bench.rows()] == [
            b"p/a/connected", b"d/a/config", b"p/a/disconnected", b"d/a/event/offline",
        ]  # fmt: skip
        group = bench.link.intake.open
        assert (group.rows, group.platform) == (2, 2)
        assert {row[0] for row in bench.rows()} == {b"a"}
        bench.acknowledge()
        assert bench.kafka.headers == [("rows", b"4"), ("platform", b"2")]
        assert bench.transport.written == b"@\x02\x00\x01@\x02\x00\x02"

    _run(loop, work)


def test_a_log_of_lines_that_tell_nothing_writes_nothing(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.link.listen(LOG.decode())
        bench.feed(Message(LOG, b"New connection from 127.0.0.1:1 on port 1.", 0, 0).packet() * 3, [])
        assert bench.rows() == []
        bench.writer.close()
        assert len(bench.kafka) == 0 and not bench.fatal
        bench.writer._poll()
        assert bench.link.intake.held_bytes == 0

    _run(loop, work)


def test_connects_are_dropped_and_counted_before_what_was_promised(loop: asyncio.AbstractEventLoop) -> None:
    line = Message(LOG, b"Client a disconnected.", 0, 0).packet()

    def work(bench: Bench) -> None:
        bench.link.listen(LOG.decode())
        bench.feed(Message(b"d/a/config", bytes(9_000), 1, 1).packet(), [])
        before = metrics.DROPPED_QOS0._value.get()
        bench.feed(line * 5, [])
        assert metrics.DROPPED_QOS0._value.get() == before + 5
        assert len(bench.rows()) == 1

    _run(loop, work, budget_bytes=10_000, payload_bytes=100_000)


def test_receipts_follow_the_brokers_window_and_survive_a_reconnect(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.link.connected(receive_maximum=1)
        for device in (b"a", b"b"):
            user = {"boot": "1", "seq": "0", "ack": "1"}
            bench.feed(Message(b"d/" + device + b"/config", b"1", 0, 0, user).packet(), [])
        bench.acknowledge()
        assert bench.transport.written.count(b"/ack") == 1
        assert b'c/a/ack\x04\x00\x00{"boot":1,"ranges":[[0,0]]}' in bench.transport.written
        bench.feed(b"\x40\x02\x04\x00", [])
        assert bench.transport.written.count(b"c/b/ack") == 1
        bench.transport.written = b""
        bench.link.connected(receive_maximum=10)
        assert bench.transport.written.count(b"c/b/ack") == 1 and b"c/a/ack" not in bench.transport.written

    _run(loop, work)


def test_a_full_kafka_queue_is_back_pressure_and_nothing_else(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.kafka.full = True
        for n in range(1, 4):
            bench.feed(Message(b"d/a/config", b"%d" % n, 1, n).packet(), [])
            bench.acknowledge()
        assert not bench.fatal and bench.transport.written == b"" and bench.link.intake.held_bytes > 0
        bench.kafka.full = False
        bench.writer._poll()
        bench.acknowledge()
        assert bench.transport.written == b"@\x02\x00\x01@\x02\x00\x02@\x02\x00\x03"

    _run(loop, work)


def test_a_delivery_error_is_fatal_and_acknowledges_nothing(loop: asyncio.AbstractEventLoop) -> None:
    def work(bench: Bench) -> None:
        bench.feed(Message(b"d/a/config", b"1", 1, 1).packet(), [])
        bench.writer.close()
        bench.kafka.refuses = True
        bench.writer._poll()
        assert "Kafka refused a record of telemetry.raw/0" in str(bench.fatal[0])
        assert bench.transport.written == b""

    _run(loop, work)
