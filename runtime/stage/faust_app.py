"""Faust with its offsets, seeks and delivery replaced. The only module that knows Faust's and aiokafka's inside.

Written against faust-streaming 0.15.3 and aiokafka 0.14; tests/stage/test_faust_names.py pins the names used here.

    Consumer.commit               only what an acknowledged snapshot covers; Faust's own arithmetic is off by one
    Consumer.ack                  forgets the message: nothing grows, nothing decides an offset
    Consumer._drain_messages      as Faust's, without four tasks a record where the queue has room
    Consumer.on_buffer_full       does nothing: the stock one makes a busy consumer sleep for a second at a time
    Consumer.wait_empty           before partitions go (rebalance, stop): finish the record in hand, snapshot, commit
    Consumer.perform_seek         the snapshot is the truth: seek to its position, whatever is committed
    ConsumerThread                sticky assignment, a shorter long poll, errors of the group made visible
    App.BootStrategy              no producer: outputs have their own (outbox.py), faster and without gaps
    App._crash                    any crash of a part of Faust ends the process: it would restart on half-applied state
    App.on_rebalance_complete     awaited before the flow resumes: here partitions are loaded
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import faust
import faust.tables
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from runtime.errors import RefusedError
from runtime.kafka import clients
from runtime.lifecycle import die
from runtime.stage.settings import StageSettings

FETCH_WAIT_MS = 500
HEARTBEAT_S = 2.0
_NEVER_S = 3600.0 * 24 * 365


class Flow(Protocol):
    """What Faust asks of the engine."""

    async def load(self, assigned: set[int]) -> None:
        """Partitions of the source that are ours now. Awaited before the first of their records."""

    async def hand_over(self) -> None:
        """Partitions go: finish what is in hand, snapshot. `committable` holds afterwards."""

    def release(self) -> None:
        """They are gone."""

    def positions(self) -> dict[int, int]:
        """Next offset by partition held."""

    def committable(self) -> dict[int, int]:
        """Offsets that an acknowledged snapshot covers, by partition held."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # faust-streaming 0.15.3 passes its own assignor or round robin, which moves partitions that need not move
        consumer._partition_assignment_strategy = [StickyPartitionAssignor]
        # and a fetch_max_wait_ms of 1500 that no setting changes: a quiet partition would hold up the others
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    # 0.15.3 crashes the app when a commit comes after a rebalance; that is normal here
    async def _commit(self, offsets: Mapping[Any, int]) -> bool:
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(o, "") for tp, o in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError):
            return False  # a rebalance was faster; what is committed informs people, the snapshot decides
        return True

    async def check(self) -> None:
        """Raise what broke the membership in the group: Faust never asks, a worker so broken would go on alone."""
        await self.call_thread(self._check)

    async def _check(self) -> None:
        self._ensure_consumer()._coordinator.check_errors()


class Consumer(driver.Consumer):
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # 0.15.3 also keeps each offset until its own commit, under a lock
    def ack(self, message: Any) -> bool:
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    # 0.15.3 starts four tasks a record to wait for its callback or a stop, whether or not there is room
    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await asyncio.sleep(0)
                async for tp, message in self.getmany(timeout=1.0):
                    if message.offset >= (self._read_offset[tp] or 0):
                        await self._deliver(message)
                        self._read_offset[tp] = message.offset
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _deliver(self, message: Any) -> None:
        queue = self.app.queue
        if self.flow_active and queue is not None and not queue.full():
            await self.callback(message)  # takes no time: there is room
        else:
            await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def on_buffer_full(self, tp: Any) -> None:
        """Nothing: a full queue makes the fetcher wait, which is enough. The stock one ends in sleeping for 1 s."""

    def on_buffer_drop(self, tp: Any) -> None:
        """Nothing; see on_buffer_full."""

    # 0.15.3 commits `_new_offset`: one past a record that is not acknowledged, and it checks no gap at offset 0
    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        changed = any(self._committed_offset[tp] != offset for tp, offset in self._covered().items())
        return changed and bool(await self.commit_covered())

    async def commit_covered(self) -> set[int]:
        """Commit what snapshots cover, moved or not: the group takes it only for partitions that are ours. Those."""
        offsets = self._covered()
        if not offsets or not await self._commit(offsets):
            return set()
        self._committed_offset.update(offsets)
        return {tp.partition for tp in offsets}

    def _covered(self) -> dict[Any, int]:
        assigned = self.assignment()
        found = {TP(self.app.source, p): offset for p, offset in self.app.flow.committable().items()}
        return {tp: offset for tp, offset in found.items() if tp in assigned}

    # 0.15.3 waits until no message is unacknowledged, which never comes while records do; called before partitions go
    async def wait_empty(self) -> None:
        try:
            await self.app.flow.hand_over()
            await self.commit()
        except Exception as error:
            die(error, "hand-over")

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await super().on_partitions_revoked(revoked)
        self.app.flow.release()

    # 0.15.3 seeks to what is committed; the snapshot decides, and a commit may be older or newer than it
    async def perform_seek(self) -> None:
        assigned = self.assignment()
        wanted = {TP(self.app.source, p): offset for p, offset in self.app.flow.positions().items()}
        wanted = {tp: offset for tp, offset in wanted.items() if tp in assigned}
        if wanted:
            await self.seek_wait(wanted)

    async def check(self) -> None:
        await self._thread.check()


class Transport(driver.Transport):
    Consumer = Consumer


class Tables(faust.tables.TableManager):
    """None, and so no second of sleep at every start in case some are declared late."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class NoMonitor(faust.Monitor):
    """Faust's own figures, not taken: they cost more a record than all of the engine."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None: ...

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None: ...

    def on_stream_event_out(self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None) -> None: ...

    def on_message_out(self, tp: Any, offset: int, message: Any) -> None: ...

    def track_tp_end_offset(self, tp: Any, offset: int) -> None: ...


class BootStrategy(faust.App.BootStrategy):
    enable_kafka_producer = False


class App(faust.App):
    """A Faust app of one source topic whose records go to `flow`."""

    BootStrategy = BootStrategy
    flow: Flow
    source: str
    queue: asyncio.Queue[Any] | None = None

    # 0.15.3 chooses the class by the URL of the broker; this is where Consumer above gets in
    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: nothing is kept on disk."""

    # 0.15.3 only marks its services as crashed: they stop as usual, and would hand over a half-applied state
    def _crash(self, reason: BaseException) -> None:
        die(reason, "Faust")

    def consume(self, handle: Callable[[Any], Awaitable[None]]) -> None:
        """Give every message of the source to `handle`, one after the other."""

        @self.agent(self.topic(self.source, key_type=bytes, value_type=bytes), name=self.conf.id)  # type: ignore[untyped-decorator]
        async def records(stream: Any) -> None:
            self.queue = stream.channel.queue
            async for event in stream.noack().events():
                try:
                    if event.message.generation_id == self.consumer_generation_id:  # not fetched before a rebalance
                        await handle(event.message)
                    await stream.ack(event)
                except Exception as error:
                    die(error, f"{self.source}/{event.message.partition} offset {event.message.offset}")

    def ends(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Next offset to be written of source partitions, as of the last fetch; None before the first."""
        assigned = self.consumer.assignment()
        mine = [p for p in partitions if TP(self.source, p) in assigned]
        return {p: self.consumer.highwater(TP(self.source, p)) for p in mine}


def build(settings: StageSettings, group: str, source: str, flow: Flow) -> App:
    """The app. Must be called with a running event loop."""
    security = clients.common(settings)
    app = App(
        group,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap.split(",")],
        broker_credentials=credentials(security),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        TableManager=Tables,
        Monitor=NoMonitor,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="none",
        consumer_group_instance_id=member(group, settings) if settings.static_membership else None,
        consumer_max_fetch_size=settings.fetch_partition_bytes,
        stream_wait_empty=True,
        stream_buffer_maxsize=settings.buffer_records,
        broker_max_poll_records=settings.buffer_records,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_request_timeout=max(40.0, settings.session_timeout_s + 10),
        broker_rebalance_timeout=max(30.0, settings.session_timeout_s),
        broker_commit_interval=_NEVER_S,  # commits follow snapshots
    )
    app.flow, app.source = flow, source

    async def load(*_: Any, **__: Any) -> None:
        try:
            await flow.load({tp.partition for tp in app.consumer.assignment() if tp.topic == source})
        except Exception as error:
            die(error, "load")

    app.on_rebalance_complete.connect(load, weak=False)
    return app


def member(group: str, settings: StageSettings) -> str:
    """Name of this worker as a static member: unique on this host by its instance, elsewhere by its host."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{group}-{socket.gethostname()}-{settings.instance}")


def credentials(properties: Mapping[str, Any]) -> Any:
    """librdkafka's security properties as Faust's credentials; None for plain text. Raises RefusedError on others."""
    protocol = properties.get("security.protocol", "plaintext").lower()
    if protocol == "plaintext":
        return None
    context = _tls(properties) if protocol.endswith("ssl") else None
    if protocol == "ssl":
        return faust.SSLCredentials(context)
    if protocol not in ("sasl_ssl", "sasl_plaintext"):
        raise RefusedError(f"security.protocol={protocol} in the file of MILLRACE_KAFKA_SECURITY is not known here")
    return faust.SASLCredentials(
        username=properties["sasl.username"],
        password=properties["sasl.password"],
        mechanism=properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "PLAIN")),
        ssl_context=context,
    )


def _tls(properties: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=properties.get("ssl.ca.location"))
    if "ssl.certificate.location" in properties:
        context.load_cert_chain(
            properties["ssl.certificate.location"],
            properties.get("ssl.key.location"),
            properties.get("ssl.key.password"),
        )
    return context
