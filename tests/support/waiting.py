"""Waiting for a condition: the only place of the tests that sleeps. See tests/docs/test_hygiene.py."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
WITHIN_S = 60.0
"""Long: a test that waits for a condition fails by it never coming true, not by the machine being slow."""
_EVERY_S = 0.01


def wait_for(
    condition: Callable[[], T], what: str | Callable[[], str], within_s: float = WITHIN_S, every_s: float = _EVERY_S
) -> T:
    """The first true value of `condition`. Fails with `what` (a text, or a function that makes it) after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, _text(what, within_s)
        time.sleep(every_s)
    return found


async def wait_for_async(
    condition: Callable[[], T | Awaitable[T]], what: str | Callable[[], str], within_s: float = WITHIN_S
) -> T:
    """The same on an event loop; `condition` may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        found: T = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        assert time.monotonic() < deadline, _text(what, within_s)
        await asyncio.sleep(_EVERY_S)


def _text(what: str | Callable[[], str], within_s: float) -> str:
    return f"waited {within_s:g} s for {what if isinstance(what, str) else what()}"
