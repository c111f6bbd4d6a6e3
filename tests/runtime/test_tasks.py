"""Threads and tasks end with whoever started them."""

import asyncio
import threading

import pytest

from runtime.tasks import cancel, in_thread


def test_a_cancelled_call_in_a_thread_is_waited_for_however_often_it_is_cancelled() -> None:
    begun, let_go, over = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        let_go.wait()
        over.set()

    async def run() -> None:
        task = asyncio.ensure_future(in_thread(call))
        while not begun.is_set():  # noqa: ASYNC110 (the thread has no loop)
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert over.is_set()

    asyncio.run(run())


def test_a_call_in_a_thread_gives_its_value_and_raises_its_error() -> None:
    async def run() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    asyncio.run(run())


def test_what_is_cancelled_has_ended_when_cancel_returns() -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.append(True)

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    async def run() -> None:
        tasks = [asyncio.ensure_future(slow()), asyncio.ensure_future(failing())]
        await asyncio.sleep(0)
        await cancel(*tasks, None)
        assert ended == [True] and all(task.done() for task in tasks)

    asyncio.run(run())
