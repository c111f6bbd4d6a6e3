"""The one way to try again: exponential back-off with jitter, an optional deadline, one log line per change of state.

    facts = retry(lambda: topics.facts(settings, *names), "topic facts")
    facts = await retry_async(lambda: in_thread(topics.facts, settings, *names), "topic facts")

A loop with a shape of its own (an HTTP answer that carries Retry-After) uses `Attempts` directly.
"""

import asyncio
import logging
import math
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from runtime.errors import MillraceError, RetryableError

T = TypeVar("T")
log = logging.getLogger(__name__)

_DOUBLINGS: Final = 60
"""More would overflow a float long before it changes a wait."""
_NUMBERS: Final = re.compile(r"\d+")


class StoppedError(MillraceError):
    """The process was asked to stop between two tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Wait `first_s` after the first failure, twice as long after each further one, at most `longest_s`.

    The wait is drawn between half and all of that, so that clients that failed together do not return together.
    `deadline_s` counts from the first try. Only `errors` are tried again; anything else is raised at once.
    """

    first_s: float = 0.2
    longest_s: float = 5.0
    deadline_s: float = math.inf
    errors: tuple[type[Exception], ...] = (RetryableError,)

    def limit_s(self, failures: int) -> float:
        """The longest wait after so many failures in a row (1 or more); what a loop without jitter waits."""
        return min(self.first_s * 2.0 ** min(failures - 1, _DOUBLINGS), self.longest_s)

    def wait_s(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """The wait after so many failures in a row, with jitter."""
        return self.limit_s(failures) * uniform(0.5, 1.0)


FOREVER: Final = RetryPolicy()
"""For what a service cannot do without: try until it answers."""


class Attempts:
    """The tries of one operation. `failed` gives the wait before the next try, `succeeded` ends the series.

    Logged: the first failure, a failure for another reason (digits aside: they are ports, times and counters), and the
    success after failures. `notify` receives the text of every failure, and None upon success: readiness shows it.
    """

    def __init__(
        self,
        what: str,
        policy: RetryPolicy = FOREVER,
        notify: Callable[[str | None], None] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._what, self._policy, self._notify, self._now_s = what, policy, notify, now_s
        self._began_s = now_s()
        self._reason = ""

    def failed(self, error: Exception) -> float:
        """Seconds to wait before the next try. Raises `error` itself when the deadline has passed."""
        self.failures += 1
        left_s = self._policy.deadline_s - (self._now_s() - self._began_s)
        text = str(error) or type(error).__name__
        if self._notify is not None:
            self._notify(text)
        if left_s <= 0:
            raise error
        self._log(text)
        return min(self._policy.wait_s(self.failures), left_s)

    def succeeded(self) -> None:
        """The operation has ended well; a later failure begins a new series."""
        if self.failures:
            after_s = round(self._now_s() - self._began_s, 1)
            log.info("%s: succeeded", self._what, extra={"failures": self.failures, "after_s": after_s})
        if self._notify is not None:
            self._notify(None)
        self.failures, self._reason, self._began_s = 0, "", self._now_s()

    def _log(self, text: str) -> None:
        reason = _NUMBERS.sub("#", text)
        if reason != self._reason:
            log.warning("%s: %s; trying again", self._what, text)
        self._reason = reason


def retry(
    call: Callable[[], T],
    what: str,
    policy: RetryPolicy = FOREVER,
    *,
    stop: threading.Event | None = None,
    notify: Callable[[str | None], None] | None = None,
) -> T:
    """What `call` returns. Blocks. Raises the last error after the deadline, StoppedError once `stop` is set."""
    stop = stop or threading.Event()
    attempts = Attempts(what, policy, notify)
    while True:
        try:
            answer = call()
        except policy.errors as error:
            if stop.wait(attempts.failed(error)):
                raise StoppedError(f"{what}: stopped while trying again: {error}") from error
        else:
            attempts.succeeded()
            return answer


async def retry_async(
    call: Callable[[], Awaitable[T]],
    what: str,
    policy: RetryPolicy = FOREVER,
    *,
    notify: Callable[[str | None], None] | None = None,
) -> T:
    """What awaiting `call()` gives; the same as `retry` on an event loop. Cancel it to stop it."""
    attempts = Attempts(what, policy, notify)
    while True:
        try:
            answer = await call()
        except policy.errors as error:
            await asyncio.sleep(attempts.failed(error))
        else:
            attempts.succeeded()
            return answer
