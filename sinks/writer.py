"""Writes ranges to ClickHouse in a few threads; retries until they are acknowledged or the partition is revoked."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np

from runtime.errors import RetryableError
from runtime.retry import Attempts
from sinks import metrics
from sinks.adapters.tables import Tables
from sinks.core.flow import Flow, Range
from sinks.core.inserts import Insert
from sinks.core.logs import LOGS

STANDSTILL_S: Final = 20.0
"""A process that was suspended for longer may have lost its partitions and be a zombie, and ClickHouse may no longer
remember tokens. Much less than the time that its tokens (100,000 inserts per table) last."""


class Writer:
    """Writes ranges to ClickHouse with `threads` threads, several at the same time.

    `tables`: the adapter that inserts. `delays`: by table, a histogram of the delay since receipt; tables without one
    are not measured. `trouble`: by partition, the last error of ClickHouse while a write is being retried.

    Call order: any number of `write`, one at a time per partition; to stop, `give_up`, wait for the futures, then
    `close`. Commit a range only after its future returned True.

        writer = Writer(tables, delays, threads=4)
        stored = writer.write(flow, part).result()  # True: commit the range; False: it must be written again
    """

    def __init__(self, tables: Tables, delays: Mapping[str, metrics.DelayHistogram], threads: int) -> None:
        self.trouble: dict[str, str] = {}
        self.attempts = 0
        """Number of finished inserts, successful or not, for liveness. Not exact: threads may overwrite each other."""
        self._tables, self._delays = tables, delays
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads, "writer")

    def write(self, flow: Flow, part: Range) -> "Future[bool]":
        """Write the rows of a range to all its tables.

        `flow`: the state of the partition; when it is no longer owned, retries end. The future returns True if all
        inserts were acknowledged, False if it gave up and the range must be written again. RetryableError is retried
        with backoff; any other exception of an insert is raised by the future.
        """
        return self._pool.submit(self._write, flow, part, time.monotonic())

    def give_up(self) -> None:
        """Stop retrying; inserts in progress may still succeed. Never blocks."""
        self._stop.set()

    def close(self) -> None:
        """Give up and wait for the threads to end. No `write` after that."""
        self.give_up()
        self._pool.shutdown(wait=True)

    def _write(self, flow: Flow, part: Range, given_at: float) -> bool:
        plan = LOGS[part.topic].plan(part)
        if not all(self._until_acknowledged(flow, part, insert, given_at) for insert in plan):
            return False
        busy_ms = next((e.appended_ms for e in part.entries if e.busy), None)
        if busy_ms is not None:
            metrics.DELAY_SECONDS.labels(part.topic).observe(max(0.0, time.time() - busy_ms / 1000))
        return True

    def _until_acknowledged(self, flow: Flow, part: Range, insert: Insert, given_at: float) -> bool:
        """The token alone is relied on only at the first attempt of a process that cannot be a zombie."""
        note = partial(self._note, part.where)
        attempts = Attempts(f"{part.where}: insert into {insert.table}", notify=note)
        began, check = time.monotonic(), part.check
        while flow.owned:
            check = check or flow.doubt or time.monotonic() - given_at > STANDSTILL_S
            try:
                self._tables.insert(insert, check)
                self.attempts += 1
            except RetryableError as error:
                self.attempts += 1
                metrics.RETRIES.labels(insert.table).inc()
                check = True
                if self._stop.wait(attempts.failed(error)):
                    return False
            else:
                attempts.succeeded()
                self._count(insert, check, time.monotonic() - began)
                return True
        note(None)
        return False

    def _note(self, where: str, error: str | None) -> None:
        if error is None:
            self.trouble.pop(where, None)
        else:
            self.trouble[where] = error

    def _count(self, insert: Insert, check: bool, took_s: float) -> None:
        metrics.ROWS.labels(insert.table).inc(insert.rows.num_rows)
        metrics.INSERT_SECONDS.labels(insert.table).observe(took_s)
        if check:
            metrics.CHECKED.labels(insert.table).inc()
        if insert.table in self._delays:
            received_ms = insert.rows["received_at"].to_numpy().astype("datetime64[ms]").astype(np.int64)
            self._delays[insert.table].observe(np.maximum(time.time() * 1000 - received_ms, 0) / 1000)
