"""runtime.retry: waits, deadline, which errors, and what is logged."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import FatalError, RetryableError
from runtime.retry import Attempts, RetryPolicy, StoppedError, retry, retry_async

QUICK = RetryPolicy(first_s=0.001, longest_s=0.002)
Run = Callable[[Callable[[], int], RetryPolicy], int]


def in_thread(call: Callable[[], int], policy: RetryPolicy) -> int:
    return retry(call, "test", policy)


def on_loop(call: Callable[[], int], policy: RetryPolicy) -> int:
    async def called() -> int:
        return call()

    return asyncio.run(retry_async(called, "test", policy))


both = pytest.mark.parametrize("run", [in_thread, on_loop])


class Flaky:
    """Fails with each of `errors` in turn, then returns the number of calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def attempts(policy: RetryPolicy, clock: list[float]) -> Attempts:
    return Attempts("test", policy, now_s=lambda: clock[0])


@given(st.floats(1e-3, 10), st.floats(1e-3, 1e3), st.integers(1, 10_000), st.floats(0, 1))
def test_a_wait_lies_between_half_and_the_whole_of_a_doubling_limit_that_is_bounded(first, longest, failures, draw):
    policy = RetryPolicy(first_s=first, longest_s=longest)
    wait = policy.wait_s(failures, lambda low, high: low + (high - low) * draw)
    limit = policy.limit_s(failures)
    assert limit / 2 <= wait <= limit * (1 + 1e-9) <= longest * (1 + 1e-9)
    assert limit <= policy.limit_s(failures + 1) <= 2 * limit * (1 + 1e-9)


@both
def test_what_may_heal_is_tried_until_it_succeeds(run: Run):
    assert run(Flaky(RetryableError("away"), RetryableError("away")), QUICK) == 3


@both
def test_what_cannot_heal_is_raised_at_the_first_try(run: Run):
    call = Flaky(FatalError("gap"))
    with pytest.raises(FatalError, match="gap"):
        run(call, QUICK)
    assert call.calls == 1


@both
def test_the_policy_says_which_errors_are_tried_again(run: Run):
    policy = RetryPolicy(first_s=0.001, errors=(OSError,))
    assert run(Flaky(OSError("no route"), TimeoutError()), policy) == 3
    with pytest.raises(RetryableError):
        run(Flaky(RetryableError("away")), policy)


@both
def test_the_last_error_is_raised_once_the_deadline_has_passed(run: Run):
    call = Flaky(*[RetryableError(f"try {n}") for n in range(1, 100_000)])
    with pytest.raises(RetryableError) as raised:
        run(call, RetryPolicy(first_s=0.001, longest_s=0.001, deadline_s=0.02))
    assert str(raised.value) == f"try {call.calls}"


def test_the_last_wait_ends_at_the_deadline_and_a_success_begins_a_new_series():
    clock = [100.0]
    tries = attempts(RetryPolicy(first_s=8, longest_s=8, deadline_s=10), clock)
    clock[0] += 9
    assert tries.failed(RetryableError("a")) == 1
    clock[0] += 1
    with pytest.raises(RetryableError):
        tries.failed(RetryableError("b"))
    tries.succeeded()
    assert tries.failures == 0
    assert tries.failed(RetryableError("c")) >= 4


def test_a_retry_ends_when_the_process_is_asked_to_stop():
    stop = threading.Event()
    call = Flaky(*[RetryableError("away")] * 3)

    def asked() -> int:
        if call.calls == 1:
            stop.set()
        return call()

    with pytest.raises(StoppedError, match="away") as raised:
        retry(asked, "test", QUICK, stop=stop)
    assert isinstance(raised.value.__cause__, RetryableError)
    assert call.calls == 2


def test_a_cancelled_retry_ends_at_once():
    async def cancelled() -> None:
        call = Flaky(*[RetryableError("away")] * 10)
        began = asyncio.Event()

        async def called() -> int:
            began.set()
            return call()

        task = asyncio.ensure_future(retry_async(called, "test", RetryPolicy(first_s=3600, longest_s=3600)))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.calls == 1

    asyncio.run(cancelled())


@both
def test_the_log_has_a_line_per_change_of_state_and_none_per_try(run: Run, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    away = [RetryableError(f"no answer after {n} ms") for n in range(50)]
    run(
        Flaky(*away, RetryableError("no leader"), RetryableError("no leader")),
        RetryPolicy(first_s=1e-6, longest_s=1e-6),
    )
    assert [record.getMessage() for record in caplog.records] == [
        "test: no answer after 0 ms; trying again",
        "test: no leader; trying again",
        "test: succeeded",
    ]


@both
def test_nothing_is_logged_where_the_first_try_succeeds(run: Run, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    run(Flaky(), QUICK)
    assert caplog.records == []


def test_readiness_learns_every_failure_and_the_success():
    heard: list[str | None] = []
    retry(Flaky(RetryableError("one"), RetryableError("two")), "test", QUICK, notify=heard.append)
    assert heard == ["one", "two", None]
