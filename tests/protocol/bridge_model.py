"""Devices, broker and bridge of the model. The bridge is bridge.core.Intake itself, in one partition."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.core.columns import Record
from bridge.core.intake import Group, Intake, Limits
from bridge.core.rows import Properties, flags, row
from schemas import headers, raw
from schemas.vocabulary import Transport
from tests.protocol.options import Options
from tests.protocol.parts import Log, Message


@dataclass
class Devices:
    """Publish in order of seq; may hold messages back, and keep a store until acknowledgement end to end."""

    options: Options
    random: random.Random
    uid: int = 0
    next_seq: dict[str, int] = field(default_factory=dict)
    held_back: list[Message] = field(default_factory=list)
    store: list[Message] = field(default_factory=list)

    def publish(self) -> Message | None:
        if self.uid >= self.options.messages:
            return None
        device = self.random.choice(("a", "b"))
        seq = self.next_seq.get(device, 0)
        self.next_seq[device] = seq + 1
        message = Message(device, 1, seq if self.options.seq else None, self.uid)
        self.uid += 1
        if self.options.end_to_end:
            self.store.append(message)
        if self.options.reorder and self.random.random() < 0.3:
            self.held_back.append(message)
            return None
        return message

    def acknowledged(self, messages: list[Message]) -> None:
        """`c/{id}/ack` names what Kafka holds: exactly that is forgotten."""
        named = {(m.device, m.seq) for m in messages}
        if self.options.mutant == "end-to-end names the highest only":
            highest = {m.device: m.seq or 0 for m in sorted(messages, key=lambda m: m.seq or 0)}
            named = {(m.device, m.seq) for m in self.store if (m.seq or 0) <= highest.get(m.device, -1)}
        self.store = [m for m in self.store if (m.device, m.seq) not in named]


@dataclass
class Broker:
    """mosquitto's queue for the bridge: in order, persistent up to its last autosave."""

    queue: list[Message] = field(default_factory=list)
    saved: list[Message] = field(default_factory=list)
    delivered: int = 0

    def settled(self, count: int) -> None:
        """PUBACKs for the `count` oldest."""
        del self.queue[:count]
        self.delivered -= count


class Bridge:
    def __init__(self, options: Options, broker: Broker, raw_log: Log, devices: Devices) -> None:
        self.options, self.broker, self.log, self.devices = options, broker, raw_log, devices
        self.orphans: list[Record] = []
        self._begin()

    def _begin(self) -> None:
        self.intake = Intake(1, Limits(group_rows=1000))
        self.flying: list[tuple[Group, Record]] = []
        self.receipts: dict[int, list[Message]] = {}
        self.broker.delivered = 0

    def receive(self, count: int) -> None:
        fresh = self.broker.queue[self.broker.delivered : self.broker.delivered + count]
        for message in fresh:
            topic = f"d/{message.device}/telemetry/x".encode()
            extend, device = self.intake.route(topic)
            extend(row(device, topic, payload(message), _properties(message), flags(Transport.MQTT, 1), message.uid))
        if fresh:
            self.broker.delivered += len(fresh)
            self.intake.add(len(fresh), 100)
            self.receipts.setdefault(id(self.intake.open), []).extend(fresh)

    def close(self) -> None:
        if not self.intake.open.rows:
            return
        messages = self.receipts.pop(id(self.intake.open))
        self.intake.open.done.append(self._puback(len(messages)))
        group, records = self.intake.close(0.0)
        self.flying += [(group, record) for record in records]
        if self.options.mutant == "PUBACK before Kafka":
            group.done.pop()()

    def _puback(self, count: int) -> Callable[[], None]:
        return lambda: self.broker.settled(count)

    def land(self, time_ms: int) -> None:
        """Kafka acknowledges the oldest record in flight."""
        if self.flying:
            group, record = self.flying.pop(0)
            self._append(record, time_ms)
            group.pending -= 1

    def _append(self, record: Record, time_ms: int) -> None:
        self.log.append(time_ms, headers.raw_data(record.rows), record.value)
        if self.options.end_to_end:
            self.devices.acknowledged(messages_of(record.value))

    def puback(self) -> None:
        for group in self.intake.acknowledged():
            for done in group.done:
                done()

    def kill(self) -> None:
        """What was in flight may still land; the broker will deliver again whatever had no PUBACK."""
        self.orphans += [record for _, record in self.flying]
        self._begin()

    def orphan_lands(self, time_ms: int) -> None:
        if self.orphans:
            self._append(self.orphans.pop(0), time_ms)

    @property
    def idle(self) -> bool:
        return not self.flying and not self.intake.closed and not self.intake.open.rows


def payload(message: Message) -> bytes:
    return json.dumps([message.uid, message.replay_of]).encode()


def _properties(message: Message) -> Properties | None:
    if message.seq is None:
        return None
    return Properties(boot=b"%d" % message.boot, seq=b"%d" % message.seq)


def messages_of(value: bytes) -> list[Message]:
    """The messages of a raw record."""
    batch = raw.read({"schema": b"telemetry.raw/1"}, value)
    rows = zip(*(batch.column(c).to_pylist() for c in ("device", "boot", "seq", "payload")), strict=True)
    return [
        Message(device, int(boot or 0), None if seq is None else int(seq), *json.loads(body))
        for device, boot, seq, body in rows
    ]
