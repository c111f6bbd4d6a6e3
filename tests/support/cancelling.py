"""Cancels a coroutine at its n-th await."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Cancelling:
    """Runs a coroutine as a task, counts its suspensions, and cancels it at number `at`, `delay_s` after it began to
    wait there (0: no cancel)."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, delay_s: float = 0.0) -> None:
        self._coroutine, self._at, self._delay_s = coroutine, at, delay_s
        self.suspensions = 0
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        proceed, given = inner.send, None
        while True:
            try:
                waited = proceed(given)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self._at:
                asyncio.get_running_loop().call_later(self._delay_s, self.task.cancel)
            try:
                proceed, given = inner.send, (yield waited)
            except BaseException as error:
                proceed, given = inner.throw, error

    async def reached(self, number: int) -> None:
        """Return when it waits at its await `number`, or has ended."""
        while self.suspensions < number and not self.task.done():  # noqa: ASYNC110 (its turns are counted)
            await asyncio.sleep(0)

    async def cancelled(self) -> bool:
        """Wait for its end: whether it was cancelled, or else had ended before. Raises what it raised."""
        try:
            await self.task
        except asyncio.CancelledError:
            return True
        return False
