"""The transition table of supervised services and the rule of restarts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.states import ALIVE, FIRST_RETRY_S, LONGEST_RETRY_S, STEADY_S, IllegalMove, Service, State, delay_s


def running(now_s: float = 0.0, **more: object) -> Service:
    return Service("a", **more).start(1, now_s).probed(True)  # type: ignore[arg-type]


def test_a_service_that_dies_is_due_again_after_its_delay() -> None:
    service = running().ended(-9, 5.0)
    assert (service.state, service.pid, service.why) == (State.RESTARTING, None, "ended by signal 9")
    assert not service.is_due(5.0)
    assert service.is_due(5.0 + FIRST_RETRY_S)
    again = service.start(2, 6.0).probed(True)
    assert (again.state, again.restarts, again.pid, again.why) == (State.RUNNING, 1, 2, None)


def test_the_delay_doubles_and_is_bounded() -> None:
    delays = [delay_s(n) for n in range(1, 1000)]
    assert delays[:4] == [FIRST_RETRY_S * 2**n for n in range(4)]
    assert delays[-1] == LONGEST_RETRY_S
    assert delays == sorted(delays)


def test_a_steady_time_forgives_former_failures() -> None:
    service = running().ended(1, 1.0).start(2, 2.0).ended(1, 3.0)
    assert service.failures == 2
    assert service.start(3, 4.0).ended(1, 4.0 + STEADY_S).failures == 1


@pytest.mark.parametrize(("code", "word"), [(64, "settings"), (78, "decision")])
def test_some_exit_codes_stay_down_and_say_why(code: int, word: str) -> None:
    service = running().ended(code, 1.0)
    assert service.state is State.FAILED
    assert not service.is_due(1e9)
    assert word in (service.why or "")


def test_a_one_shot_that_ended_well_is_done_and_lets_others_start() -> None:
    service = Service("init", one_shot=True).start(1, 0.0).ended(0, 1.0)
    assert service.state is State.DONE
    assert service.has_been_ready
    assert service.is_well
    assert Service("init", one_shot=True).start(1, 0.0).ended(1, 1.0).state is State.RESTARTING


def test_ending_with_zero_is_no_excuse_for_a_service() -> None:
    assert running().ended(0, 1.0).state is State.RESTARTING


def test_readiness_comes_and_goes() -> None:
    service = running()
    away = service.probed(False)
    assert (away.state, away.why, away.is_well) == (State.UNREADY, "not ready", False)
    assert away.probed(True) == service
    assert Service("a").start(1, 0.0).probed(False).state is State.STARTING


@pytest.mark.parametrize(
    ("service", "after"),
    [
        (Service("a"), State.STOPPED),
        (running(), State.STOPPING),
        (running().ended(1, 1.0), State.STOPPED),
        (running().ended(64, 1.0), State.FAILED),
    ],
)
def test_a_stop_ends_what_runs_and_no_more(service: Service, after: State) -> None:
    assert service.stop().state is after


def test_an_illegal_move_raises() -> None:
    with pytest.raises(IllegalMove):
        Service("a").start(1, 0.0).start(2, 1.0)
    with pytest.raises(IllegalMove):
        Service("a").ended(1, 1.0)


@given(st.lists(st.sampled_from(["end", "ready", "unready", "wait"]), max_size=60), st.integers(0, 255))
def test_whatever_happens_restarts_count_starts_and_only_the_living_have_a_pid(events: list[str], code: int) -> None:
    service, now_s, starts = Service("a"), 0.0, 0
    for event in events:
        now_s += LONGEST_RETRY_S
        if service.is_due(now_s):
            starts += 1
            service = service.start(starts, now_s)
        if event == "end" and service.state in ALIVE:
            service = service.ended(code, now_s)
        elif event in ("ready", "unready"):
            service = service.probed(event == "ready")
        assert (service.pid is not None) == (service.state in ALIVE)
        assert service.restarts == max(0, starts - 1)
        assert service.state is not State.RESTARTING or service.retry_at_s <= now_s + LONGEST_RETRY_S
