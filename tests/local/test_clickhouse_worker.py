"""The thread of a connection of the local ClickHouse: nothing is closed under a call that still runs."""

import asyncio
import threading

import pytest

from local.clickhouse.engine import _Worker
from local.clickhouse.errors import ClickHouseError


def test_a_call_is_waited_for_also_when_the_request_is_cancelled_twice() -> None:
    begun, let_go, over = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        let_go.wait()
        over.set()

    async def run() -> None:
        task = asyncio.ensure_future(_Worker().do(call))
        while not begun.is_set():  # noqa: ASYNC110 (the thread has no loop)
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done(), "the connection would be closed under the call"
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert over.is_set()

    asyncio.run(run())


def test_what_the_engine_raises_is_an_error_of_clickhouse() -> None:
    async def run() -> None:
        with pytest.raises(ClickHouseError, match="division"):
            await _Worker().do(divmod, 1, 0)

    asyncio.run(run())
