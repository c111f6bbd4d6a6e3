"""What a deployment shows from outside: each check asks one thing of it and yields findings. All of it blocks."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from cryptography import x509

from control import decisions
from local import status
from local.programs import tail
from monitoring.watch.certificates import presented
from operations.backup import journal
from operations.correct import phases
from operations.doctor import control_records, judge
from operations.doctor.judge import Finding, Level
from runtime.addresses import Address
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import endpoint
from runtime.kafka import clients, topics
from runtime.kafka.log import LogReader
from runtime.settings import KafkaSettings, setting
from schemas import topics as names
from schemas.control import POLICY_KEY
from schemas.headers import kind_of, table
from schemas.vocabulary import Kind
from sinks.ledger import ledger_totals
from sinks.migrate import check_migrated
from sinks.schema import missing
from sinks.settings import MigrationSettings
from streams.access.policy import decode

_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 5.0
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443}
_BACK: Final = 50
"""Records at the end of a partition among which a tick is looked for."""
_DAY_S: Final = 86_400
_QUIET: Final[dict[str, Any]] = {"log_level": 2}
"""A consumer that is closed while it still logs in would print that as a failure."""


@dataclass(frozen=True)
class DoctorSettings(KafkaSettings, MigrationSettings):
    """Where everything is."""

    device_mqtt_url: str | None = setting(None, doc="MQTT without TLS, as devices reach it")
    device_mqtts_url: str | None = setting(None, doc="MQTT with TLS, as devices reach it")
    device_http_url: str | None = setting(None, doc="HTTP, as devices reach it")
    ca_file: Path | None = setting(None, doc="certificate of the devices' authority")
    sink_group: str = setting("millrace-sink", doc="Kafka consumer group of the sinks")


class Checks:
    """Of the deployment that `settings` describe; `data` is the folder of a local platform, if it is one."""

    def __init__(self, settings: DoctorSettings, data: Path) -> None:
        self._settings, self._data = settings, data

    @cached_property
    def _admin(self) -> AdminClient:
        return clients.admin(self._settings)

    @contextmanager
    def _database(self) -> Iterator[ClickHouse]:
        with ClickHouse(self._settings, timeout_s=_TIMEOUT_S) as db:
            yield db

    def all(self) -> Mapping[str, Callable[[], Iterator[Finding]]]:
        """By name, in the order of a reader's interest."""
        return {
            "services": self.services,
            "reachability": self.reachability,
            "certificates": self.certificates,
            "confinement": self.confinement,
            "topics": self.topics,
            "control": self.control,
            "time": self.time,
            "lag": self.lag,
            "migrations": self.migrations,
            "policies": self.policies,
            "operations": self.operations,
            "versions": self.versions,
            "disk": self.disk,
            "ledger": self.ledger,
        }

    def services(self) -> Iterator[Finding]:
        found = status.read(self._data)
        if found is not None:
            ended = [s["name"] for s in found["services"] if s["state"] not in ("running", "done")]
            logs = {name: tail(self._data / "logs" / f"{name}.log") for name in ended}
            yield from judge.services(found["services"], logs)
            yield from judge.full_disks(found.get("disks", ()))

    def _endpoints(self) -> Iterator[tuple[str, Address, bool]]:
        """(scheme, address, whether it speaks TLS) of everything that is reached by a URL."""
        own, server = self._settings, endpoint(self._settings)
        yield "https" if server.secure else "http", Address.at(server.host, server.port), server.secure
        for url in (own.device_mqtt_url, own.device_mqtts_url, own.device_http_url):
            if url:
                parts = urlsplit(url)
                port = parts.port or _PORTS.get(parts.scheme, 80)
                yield parts.scheme, Address.at(parts.hostname or "", port), parts.scheme in ("mqtts", "https")

    def reachability(self) -> Iterator[Finding]:
        for scheme, address, _ in self._endpoints():
            try:
                socket.create_connection((address.host, address.port), _CONNECT_S).close()
                yield Finding("reachability", Level.OK, f"{scheme} at {address}")
            except OSError as error:
                do = "is it up, is the address right, does a firewall block it?"
                yield Finding("reachability", Level.WRONG, f"{scheme} at {address}: {error}", do)
        brokers = self._admin.list_topics(timeout=_TIMEOUT_S).brokers
        yield Finding("reachability", Level.OK, f"kafka, {len(brokers)} brokers")

    def certificates(self) -> Iterator[Finding]:
        for scheme, address, tls in self._endpoints():
            if tls:
                yield judge.certificate(f"{scheme} at {address}", _days_left(presented(address)))
        if self._settings.ca_file is not None and self._settings.ca_file.exists():
            yield judge.certificate("the devices' authority", _days_left(self._settings.ca_file.read_bytes()))

    def confinement(self) -> Iterator[Finding]:
        """Of a local platform only; a ClickHouse server, whose users have rights of their own, has no such page."""
        server = endpoint(self._settings)
        if status.read(self._data) is None or server.secure:
            return
        with closing(HTTPConnection(server.host, server.port, timeout=_CONNECT_S)) as connection:
            connection.request("GET", "/confinement")
            answer = connection.getresponse()
            body = answer.read()
        if answer.status == HTTPStatus.OK:
            found = orjson.loads(body)
            yield judge.confinement(found["in_reach"], found["readers_served"])

    def topics(self) -> Iterator[Finding]:
        registered = topics.recorded(self._settings)
        replication = self._replication()
        partitions = registered[names.RAW].partitions if names.RAW in registered else 1
        plans = topics.plans(partitions, replication)
        there = set(self._admin.list_topics(timeout=_TIMEOUT_S).topics)
        live = topics.identities(self._admin, [plan.name for plan in plans if plan.name in there])
        configs = self._configs(list(live))
        found: list[Finding] = []
        for plan in plans:
            facts = registered.get(plan.name)
            known = None if facts is None else (facts.topic_id, facts.partitions)
            found += judge.topic(plan, known, live.get(plan.name), configs.get(plan.name, {}))
        yield from found or [
            Finding("topics", Level.OK, f"{len(plans)}, {partitions} partitions, {replication} copies")
        ]

    def control(self) -> Iterator[Finding]:
        records = topics.read_control(self._settings)
        yield from control_records.findings({key: value for key, (_, value) in records.items()})

    def _replication(self) -> int:
        found = self._admin.list_topics(names.RAW, timeout=_TIMEOUT_S).topics[names.RAW].partitions
        return max((len(partition.replicas) for partition in found.values()), default=1)

    def _configs(self, wanted: list[str]) -> dict[str, dict[str, str]]:
        asked = self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in wanted])
        answers = {resource.name: future.result(_TIMEOUT_S) for resource, future in asked.items()}
        return {name: {key: str(entry.value) for key, entry in one.items()} for name, one in answers.items()}

    def time(self) -> Iterator[Finding]:
        with LogReader(self._settings, timeout_s=_TIMEOUT_S, more=_QUIET) as reader:
            low, high = reader.bounds(names.RAW, 0)
            appended_ms = [
                record.timestamp()[1]
                for record in reader.records(names.RAW, {0: (max(low, high - _BACK), high)})
                if kind_of(table(record.headers())) is Kind.TICK
            ]
        yield judge.tick(time.time() - appended_ms[-1] / 1000 if appended_ms else None)
        with self._database() as db:
            asked = time.time()
            theirs = float(db.rows("SELECT toUnixTimestamp64Milli(now64(3)) / 1000")[0][0])
            yield judge.clock((asked + time.time()) / 2 - theirs, "ClickHouse's")

    def lag(self) -> Iterator[Finding]:
        """What each group has not committed; stages commit with their snapshots, so a few seconds are no lag."""
        sources = {name: (names.RAW if name == "access" else names.READINGS,) for name in names.STAGES}
        groups = sources | {self._settings.sink_group: (names.RAW, names.READINGS, *names.DERIVED)}
        partitions, admin = topics.recorded(self._settings)[names.RAW].partitions, self._admin
        with LogReader(self._settings, timeout_s=_TIMEOUT_S, more=_QUIET) as reader:
            for group, read in groups.items():
                wanted = [(topic, p) for topic in read for p in range(partitions)]
                (asked,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
                done = {(tp.topic, tp.partition): tp.offset for tp in asked.result(_TIMEOUT_S).topic_partitions or ()}
                yield _lag(reader, group, wanted, done)

    def migrations(self) -> Iterator[Finding]:
        check_migrated(self._settings)
        with ClickHouse(self._settings) as db:
            lacking = ", ".join(map(str, missing(db)))
        if lacking:
            yield Finding("migrations", Level.WRONG, f"all applied, but {lacking} is missing", "millrace init")
        else:
            yield Finding("migrations", Level.OK, "all applied")

    def policies(self) -> Iterator[Finding]:
        for key, why in sorted(decisions.broken_records(self._settings).items()):
            do = (
                "the device is denied: millrace device remove, then add" if key.startswith("device/") else "apply again"
            )
            yield Finding("policies", Level.WRONG, f"control record {key} cannot be read: {why}", do)
        found = decisions.in_force(self._settings, POLICY_KEY, decode)
        if found is None:
            yield Finding("policies", Level.WRONG, "none is in force: every message is denied", "millrace policy apply")
            return
        if found.broken is not None:
            do = "millrace policy apply: an older one is in force"
            yield Finding("policies", Level.WRONG, f"the newest is refused: {found.broken.splitlines()[0]}", do)
            return
        offset, roles = found.offset, len(found.value.roles)
        with self._database() as db:
            sql = "SELECT uniqExact(raw_partition) FROM policies WHERE version_offset = {offset:UInt64}"
            reached = int(db.rows(sql, {"offset": offset})[0][0])
        partitions = topics.recorded(self._settings)[names.RAW].partitions
        if reached < partitions:
            do = "look at relay, access and sink"
            yield Finding("policies", Level.WRONG, f"the newest reached {reached} of {partitions} partitions", do)
        else:
            yield Finding("policies", Level.OK, f"version at offset {offset}, {roles} roles, in every partition")

    def versions(self) -> Iterator[Finding]:
        with self._database() as db:
            found = str(db.rows("SELECT version()")[0][0])
        year = int(found.split(".")[0])
        level, do = (Level.OK, "") if year >= 24 else (Level.WRONG, "Millrace needs ClickHouse 24 or later")
        yield Finding("versions", level, f"ClickHouse {found}", do)

    def operations(self) -> Iterator[Finding]:
        """Operations that broke off and leave the tables in a state that is not meant to last."""
        with self._database() as db:
            found = list(judge.unfinished(journal.under_way(db), phases.unfinished(db)))
        yield from found or [Finding("operations", Level.OK, "none broke off")]

    def disk(self) -> Iterator[Finding]:
        with self._database() as db:
            for name, free, total in db.rows("SELECT name, free_space, total_space FROM system.disks"):
                yield judge.disk(f"ClickHouse's {name}", int(free), int(total))

    def ledger(self) -> Iterator[Finding]:
        with self._database() as db:
            yield judge.ledger(ledger_totals(db.client))


def _lag(reader: LogReader, group: str, wanted: list[tuple[str, int]], done: Mapping[tuple[str, int], int]) -> Finding:
    records, oldest_ms = 0, None
    for topic, partition in wanted:
        low, high = reader.bounds(topic, partition)
        position = max(low, done.get((topic, partition), low))
        records += max(0, high - position)
        if position < high:
            first = next(reader.records(topic, {partition: (position, high)}), None)
            if first is not None:  # else nothing but marks of transactions
                appended_ms = int(first.timestamp()[1])
                oldest_ms = appended_ms if oldest_ms is None else min(oldest_ms, appended_ms)
    return judge.lag(group, records, 0.0 if oldest_ms is None else time.time() - oldest_ms / 1000)


def _days_left(pem: bytes) -> float:
    ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return (ends - datetime.now(UTC)).total_seconds() / _DAY_S
