"""A broker and a ClickHouse of the sink's own (both are killed here), topics and a database for each test."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from runtime.clickhouse.client import ClickHouse
from runtime.errors import MillraceError
from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.control import TopicFacts
from sinks.core.inserts import NAMES
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from tests.servers import ClickHouseServer, KafkaServer
from tests.support.derived import TABLES as DERIVED_TABLES
from tests.support.derived import Expected as Derived
from tests.support.derived import Stages
from tests.support.records import Chain, Expected, Headers

DEADLINE_S = 120.0


def eventually(
    check: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S, tell: Callable[[], object] = lambda: ""
) -> None:
    end = time.monotonic() + deadline_s
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what} {tell()}")
        time.sleep(0.2)


class SinkProcess:
    """`python -m sinks`, to be killed."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sinks"], env=environment, stderr=file, stdout=file, start_new_session=True
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(DEADLINE_S)

    def text(self) -> str:
        return self.log.read_text()


class Stand:
    """Kafka, ClickHouse, topics and a database of one test, and what must end in it."""

    def __init__(
        self, kafka: KafkaServer, clickhouse: ClickHouseServer, name: str, folder: Path, partitions: int
    ) -> None:
        self.kafka, self.clickhouse, self.name, self.folder = kafka, clickhouse, name, folder
        self.kafka_settings = KafkaSettings(kafka.bootstrap)
        self.settings = MigrationSettings(
            clickhouse.url.rsplit("/", 1)[0] + f"/{name}", clickhouse.password_file, clickhouse_timeout_s=20
        )
        self.facts = self._new_topics(partitions)
        self.producer: Producer = clients.producer(self.kafka_settings, {"linger.ms": 2})
        self.chains = [self.chain(p) for p in range(partitions)]
        self.sinks: list[SinkProcess] = []
        self._db: ClickHouse | None = None

    def _new_topics(self, partitions: int) -> dict[str, TopicFacts]:
        admin, plans = clients.admin(self.kafka_settings), topics.plans(partitions, 1)
        names = [p.name for p in plans[1:]]
        there = set(admin.list_topics(timeout=10).topics)
        old = [n for n in names if n in there]
        for future in admin.delete_topics(old).values() if old else ():
            future.result(10)
        eventually(lambda: not set(names) & set(admin.list_topics(timeout=10).topics), "topics deleted")
        return topics.ensure(self.kafka_settings, plans, 1)

    def chain(self, partition: int) -> Chain:
        epoch, seed = self.facts["telemetry.raw"].epoch, len(self.name)
        chain = Chain(self.send, partition, epoch, seed)
        chain.stages = Stages(self.send, partition, epoch, seed)
        return chain

    def send(self, topic: str, partition: int, headers: Headers, value: bytes) -> None:
        self.producer.produce(topic, partition=partition, headers=list(headers), value=value)
        self.producer.poll(0)

    def sink(self, instance: str = "a", **more: str) -> SinkProcess:
        environment = os.environ | {
            "MILLRACE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "MILLRACE_CLICKHOUSE_URL": self.settings.clickhouse_url,
            "MILLRACE_CLICKHOUSE_PASSWORD_FILE": str(self.settings.clickhouse_password_file),
            "MILLRACE_CLICKHOUSE_TIMEOUT_S": "20",
            "MILLRACE_SINK_GROUP": self.name,
            "MILLRACE_INSTANCE": instance,
            "MILLRACE_SINK_IDLE_MS": "1000",
            "MILLRACE_SINK_RANGE_MS": "100",
            "MILLRACE_LOG_FORMAT": "human",
            "PYTHONFAULTHANDLER": "1",
        }
        self.sinks.append(SinkProcess(environment | more, self.folder / f"sink-{instance}.log"))
        return self.sinks[-1]

    def db(self) -> ClickHouse:
        return ClickHouse(self.settings)

    def expected(self) -> Expected:
        total = Expected()
        for chain in self.chains:
            total.add(chain.expected)
        return total

    def derived(self) -> Derived:
        total = Derived()
        for chain in self.chains:
            if chain.stages:
                total.add(chain.stages.expected)
        return total

    def progress(self) -> dict[tuple[str, int], int]:
        """The furthest raw offset of each side of the ledger and partition."""
        try:
            if self._db is None:
                self._db = self.db()
            of_now = f"WHERE raw_epoch = {self.facts['telemetry.raw'].epoch}"
            furthest = f"SELECT {{}}, raw_partition, max(raw_offset) FROM ledger_{{}} {of_now} GROUP BY ALL"
            sides = (("'facts'", "facts"), ("'received'", "received"), ("topic", "derived"))
            rows = [row for side in sides for row in self._db.rows(furthest.format(*side))]
            return {(side, partition): offset for side, partition, offset in rows}
        except MillraceError:
            return {}  # ClickHouse is down, or the tables are not made yet

    def goal(self) -> dict[tuple[str, int], int]:
        """Where each side must be when all that is no tick, and all that tells something, is stored."""
        goal = {(side, c.partition): c.busy_until for c in self.chains for side in ("facts", "received")}
        for chain in self.chains:
            for topic, offset in chain.stages.busy_until.items() if chain.stages else ():
                goal[topic, chain.partition] = offset
        return goal

    def check(self) -> None:
        """Wait until everything is stored, then compare every table with what was sent, row for row."""
        for chain in self.chains:
            if chain.stages:
                chain.stages.quiet = True
            chain.tick()
        goal = self.goal()
        eventually(lambda: self.stored_with_ticks(goal), f"all is stored: at least {goal}", tell=self._stuck)
        db = self.db()
        self._check_ledger(db)
        db.close()
        self.check_rows(self.expected(), self.derived())
        for chain in self.chains:
            if chain.stages:
                chain.stages.quiet = False

    def check_rows(self, expected: Expected, derived: Derived) -> None:
        """Compare every table with what it must hold, row for row."""
        db = self.db()
        name = "raw_epoch, raw_partition, raw_offset, raw_row"
        found = db.rows(f"SELECT {name}, reading_index, device, metric, value FROM readings")
        assert Counter(found) == expected.readings
        assert Counter(db.rows(f"SELECT {name} FROM denied")) == expected.denied
        assert Counter(db.rows(f"SELECT {name} FROM dead_letters")) == expected.dead_letters
        assert Counter(db.rows(f"SELECT {name}, device, event FROM events")) == expected.events
        for table, columns in DERIVED_TABLES.items():
            name = "raw_epoch, raw_partition, raw_offset, row"
            found = db.rows(f"SELECT {name}, {', '.join(columns)} FROM {table}")
            assert Counter(found) == derived.tables[table], table
        assert dict(db.rows("SELECT device, state FROM presence_current")) == derived.newest
        db.close()

    def _check_ledger(self, db: ClickHouse) -> None:
        """Each record once, none left out, in the only epoch."""
        expected = self.expected()
        for side, said, total in (
            ("facts", "accepted", expected.accepted),
            ("received", "received", expected.received),
        ):
            name = "tuple(raw_partition, raw_offset)"
            rows = db.rows(f"SELECT count() - uniqExact({name}), sum({said}) FROM ledger_{side}")
            assert rows == [(0, total)], side
            gaps = f"SELECT max(raw_offset) + 1 - count() AS gaps FROM ledger_{side} GROUP BY raw_partition"
            assert db.rows(f"SELECT sum(gaps) FROM ({gaps})") == [(0,)], side
        twice = "SELECT count() - uniqExact(topic, raw_partition, raw_offset), sum(emitted) FROM ledger_derived"
        assert db.rows(twice) == [(0, self.derived().windows["counted"])]

    def stored_with_ticks(self, goal: dict[tuple[str, int], int]) -> bool:
        for chain in self.chains:
            chain.tick()
        self.producer.flush()
        found = self.progress()
        return all(found.get(side, -1) >= offset for side, offset in goal.items())

    def _stuck(self) -> str:
        """Where it stands, and where the threads of the sinks are."""
        for sink in self.sinks:
            sink.kill(signal.SIGABRT)
            sink.end()
        return f"{self.progress()}\n" + "\n".join(sink.text() for sink in self.sinks)

    def close(self) -> None:
        for sink in self.sinks:
            sink.kill(signal.SIGCONT)
            sink.kill()
            sink.end()
        del self.producer


@pytest.fixture(scope="module")
def servers(
    kafka_fresh: Callable[[], KafkaServer], clickhouse_fresh: Callable[[], ClickHouseServer]
) -> tuple[KafkaServer, ClickHouseServer]:
    return kafka_fresh(), clickhouse_fresh()


_NUMBER = iter(range(1_000_000))


@pytest.fixture
def make_stand(servers: tuple[KafkaServer, ClickHouseServer], tmp_path: Path) -> Iterator[Callable[[int], Stand]]:
    made: list[Stand] = []

    def make(partitions: int = 2) -> Stand:
        made.append(Stand(*servers, f"t{next(_NUMBER)}_{os.getpid()}", tmp_path, partitions))
        return made[-1]

    yield make
    for stand in made:
        stand.close()


@pytest.fixture(scope="module")
def migrated(clickhouse: ClickHouseServer) -> Iterator[MigrationSettings]:
    url = clickhouse.url.rsplit("/", 1)[0] + f"/d{next(_NUMBER)}_{os.getpid()}"
    settings = MigrationSettings(url, clickhouse.password_file)
    migrate(settings)
    yield settings
    db = ClickHouse(settings)
    db.command(f"DROP DATABASE `{db.database}`")
    db.close()


@pytest.fixture
def database(migrated: MigrationSettings) -> MigrationSettings:
    """A migrated database in the session's ClickHouse, with empty tables that remember no token."""
    db = ClickHouse(migrated)
    for table in NAMES:
        db.command(f"TRUNCATE TABLE {table}")
    db.close()
    return migrated


@pytest.fixture
def db(database: MigrationSettings) -> Iterator[ClickHouse]:
    found = ClickHouse(database)
    yield found
    found.close()
