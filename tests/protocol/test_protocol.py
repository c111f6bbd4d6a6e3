"""Nothing lost, nothing twice, as a model: thousands of random schedules over the pure parts that the services run.

Each mutant breaks one rule of the design on purpose; the model must find it, or it could not find a real mistake.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.protocol.options import Options
from tests.protocol.pipeline import play

LONG = {"messages": 18, "steps": 250}
CROWDED = {**LONG, "window": 14, "noise": 6}
SCENARIOS = {
    "kills, zombies, rebalances": Options(),
    "ClickHouse forgets tokens, inserts arrive late": Options(**CROWDED, late_insert=True),  # type: ignore[arg-type]
    "devices reorder and resend, the broker crashes": Options(
        **LONG,
        reorder=True,
        end_to_end=True,
        broker_crash=True,
        relay_zombie=True,
        clock_jump=True,  # type: ignore[arg-type]
    ),
    "operators replay": Options(**LONG, replay=4),  # type: ignore[arg-type]
    "no seq: at least once": Options(seq=False),
}
DISASTERS = Options(retention=True, recreate=True, commits_expire=True, upgrade=True)

MANY = settings(
    max_examples=int(os.environ.get("SCHEDULES", "400")),
    derandomize="SCHEDULES" not in os.environ,  # the same schedules each time; `make chaos` looks for new ones
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_promise_is_kept(name: str) -> None:
    @MANY
    @given(SEEDS)
    def schedules(seed: int) -> None:
        assert play(SCENARIOS[name], seed) == []

    schedules()


@MANY
@given(SEEDS)
def test_a_disaster_is_kept_or_stops_with_a_clear_line(seed: int) -> None:
    found = play(DISASTERS, seed)
    assert found == [] or found[0].startswith("stopped: ")


MUTANTS = {
    "PUBACK before Kafka": Options(),
    "no drop by provenance": Options(),
    "snapshot before output": Options(),
    "a cancelled thread is not awaited": Options(),
    "commit before insert": Options(),
    "only accepted marks the seq": Options(messages=18, steps=250),
    "below the highest is a repeat": Options(**LONG, reorder=True),  # type: ignore[arg-type]
    "end-to-end names the highest only": Options(**LONG, reorder=True, end_to_end=True, broker_crash=True),  # type: ignore[arg-type]
    "old control records count": Options(relay_zombie=True),
    "time goes back": Options(clock_jump=True),
    "replays have no identity": Options(**LONG, replay=4),  # type: ignore[arg-type]
    "no commit means the beginning": Options(**CROWDED, commits_expire=True),  # type: ignore[arg-type]
    "no condition after a start": Options(**CROWDED),  # type: ignore[arg-type]
    "a sink that was stopped trusts tokens": Options(**CROWDED),  # type: ignore[arg-type]
    "a retry trusts tokens": Options(**CROWDED, late_insert=True),  # type: ignore[arg-type]
    "the range's rule is the sink's own": Options(),
    "no admission": Options(upgrade=True),
}
TRIES = 3000
STOPS_BY_ITSELF = ("no admission",)
"""Scenarios in which a stop is no finding: an upgrade may rightly be refused."""

RARE = {"a retry trusts tokens": 3_240, "a sink that was stopped trusts tokens": 1_900, "no admission": 200}
"""Where to begin the search for what few schedules show, to save time."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_found(mutant: str) -> None:
    options = Options(**{**vars(MUTANTS[mutant]), "mutant": mutant})
    begin = RARE.get(mutant, 0)
    results = (play(options, seed) for seed in range(begin, begin + TRIES))
    assert any(v and (mutant not in STOPS_BY_ITSELF or not v[0].startswith("stopped")) for v in results)
