"""Reads telemetry.raw from where it stands, and waits for what must come."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TopicPartition

from runtime.kafka import clients
from runtime.settings import KafkaSettings
from schemas import headers, raw, topics
from schemas.vocabulary import Kind, Transport


@dataclass(frozen=True)
class RawRecord:
    partition: int
    offset: int
    kind: Kind
    headers: dict[str, bytes]
    value: bytes
    appended_at_ms: int

    def rows(self) -> list[dict[str, Any]]:
        """Rows of a data record; checks that the header counts them."""
        found = raw.read(self.headers, self.value)
        assert found.num_rows == int(self.headers["rows"])
        rows = found.to_pylist()
        assert sum(row["transport"] == Transport.PLATFORM for row in rows) == int(self.headers["platform"])
        return rows


class RawReader:
    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        self.records: list[RawRecord] = []
        self._consumer = clients.consumer(settings, "test-reader")
        parts = [TopicPartition(topics.RAW, p) for p in range(partitions)]
        for part in parts:
            part.offset = self._consumer.get_watermark_offsets(part, timeout=10)[1]
        self._consumer.assign(parts)

    def close(self) -> None:
        self._consumer.close()

    def until(self, done: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Read on until `done`; fails with what has come when it takes longer."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, (
                f"{len(self.records)} records, {len(self.rows())} rows, last {self.records[-3:]}"
            )
            self._read(0.05)

    def settle(self, quiet_s: float = 0.3) -> None:
        """Read on until nothing has come for `quiet_s`."""
        while self._read(quiet_s):
            pass

    def _read(self, timeout_s: float) -> int:
        messages = self._consumer.consume(500, timeout_s)
        for message in messages:
            assert message.error() is None, message.error()
            found = headers.table(message.headers())
            self.records.append(
                RawRecord(
                    message.partition(),
                    message.offset(),
                    headers.kind_of(found),
                    found,
                    message.value() or b"",
                    message.timestamp()[1],
                )
            )
        return len(messages)

    def rows(self) -> list[dict[str, Any]]:
        """Of messages."""
        return [row for row in self.all_rows() if row["transport"] != Transport.PLATFORM]

    def all_rows(self) -> list[dict[str, Any]]:
        """Of messages and of the platform's own."""
        return [row for record in self._data() for row in record.rows()]

    def wait_for_rows(self, n: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """So many rows of messages."""
        self.until(
            lambda: sum(int(r.headers["rows"]) - int(r.headers["platform"]) for r in self._data()) >= n, timeout_s
        )
        return self.rows()

    def _data(self) -> Iterator[RawRecord]:
        return (r for r in self.records if r.kind is Kind.DATA)
