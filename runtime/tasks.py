"""Tasks and threads that end with the one that started them.

`asyncio.to_thread` cannot be cancelled: the task that awaits it ends at once, the thread goes on with whatever memory
it holds. And `task.cancel()` only asks: the task may run on for several turns of the loop. Both once stored a corrupted
snapshot. So threads are awaited (`in_thread`), cancelled tasks too (`cancel`), and ruff refuses `asyncio.to_thread`.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run a blocking call in a thread. A cancellation waits for the thread to end, and is raised then.

    Even so the call should share no memory with the loop that either of them writes: it takes values and returns new
    ones.
    """
    return await in_pool(None, call, *arguments, **named)


async def in_pool(pool: Executor | None, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """`in_thread` with a thread of `pool`; None: of the loop's own."""
    future = asyncio.get_running_loop().run_in_executor(pool, partial(call, *arguments, **named))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _ended(future)
        raise


async def _ended(future: "asyncio.Future[Any]") -> None:
    """Wait for a thread's end, however often the one who waits is cancelled. What it raised is of no use any more."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()


async def cancel(*tasks: "asyncio.Future[Any] | None") -> None:
    """Cancel tasks and wait until they have ended. What they raise then is dropped."""
    wanted = [task for task in tasks if task is not None]
    for task in wanted:
        task.cancel()
    await asyncio.gather(*wanted, return_exceptions=True)
