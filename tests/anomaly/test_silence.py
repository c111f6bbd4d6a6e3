"""Silence: found at ticks, one incident a device, an end when the series sends again."""

from tests.anomaly.partition import Partition

FIXED = "rules:\n- detectors: [silence: {for: 5m}]\nincidents: {quiet: 1m, cool_down: 1m}\n"
LEARNT = "rules:\n- detectors: [silence: {times: 3}]\n"


def speak(found: Partition, minutes: int, *series: tuple[str, str], every_s: float = 60) -> None:
    """These (device, metric) say something every minute."""
    for _ in range(minutes):
        found.say(*({"device": device, "metric": metric, "value": 1.0} for device, metric in series))
        found.tick(every_s)


def test_a_series_that_falls_silent_is_one_incident_until_it_is_heard_of() -> None:
    found = Partition(FIXED)
    speak(found, 3, ("d-1", "t"))
    last_ms = found.now_ms - 60_000
    found.tick(241)
    assert found.states() == ["opened"]
    (row,) = found.anomalies
    assert (row["value"], row["raw_row"], row["time"]) == (
        None,
        None,
        found.now_ms,
    ) and found.now_ms - last_ms == 301_000
    assert row["explanation"].startswith("nothing for 5 min")
    found.tick(3600)
    assert found.states() == ["opened"], "it lasts"
    speak(found, 1, ("d-1", "t"))
    assert found.states() == ["opened", "closed"] and len(found.anomalies) == 1


def test_a_device_that_falls_silent_is_one_incident_whatever_it_measures() -> None:
    found = Partition(FIXED)
    speak(found, 3, *(("d-1", metric) for metric in "abcde"))
    found.tick(400)
    assert [(row["device"], row["metric"]) for row in found.opened()] == [("d-1", "a")]
    speak(found, 3, *(("d-1", metric) for metric in "abcde"))
    found.tick(400)
    assert found.states() == ["opened", "closed", "opened"]


def test_a_metric_that_falls_silent_alone_is_an_incident_of_its_own() -> None:
    found = Partition(FIXED)
    speak(found, 3, ("d-1", "a"), ("d-1", "b"))
    speak(found, 10, ("d-1", "a"))
    assert [(row["device"], row["metric"]) for row in found.opened()] == [("d-1", "b")]
    found.tick(400)
    assert [row["metric"] for row in found.opened()] == ["b", "a"], "now the device itself"


def test_series_that_stay_behind_when_their_device_returns_are_found_anew() -> None:
    found = Partition(FIXED)
    speak(found, 3, ("d-1", "a"), ("d-1", "b"), ("d-1", "c"))
    found.tick(400)
    speak(found, 8, ("d-1", "a"), ("d-1", "c"))
    assert [(row["state"], row["metric"]) for row in found.incidents] == [
        ("opened", "a"),
        ("closed", "a"),
        ("opened", "b"),
    ]


def test_the_usual_interval_is_learnt_and_slow_devices_have_time() -> None:
    found = Partition(LEARNT)
    for n in range(60):
        found.say(*[{"device": "fast", "value": 1.0}] + ([{"device": "slow", "value": 1.0}] if n % 10 == 0 else []))
        found.tick(120)
    assert not found.incidents, "slow sent six readings only"
    speak(found, 30, ("slow", "t"), every_s=1200)
    names = [row["device"] for row in found.opened()]
    assert names == ["fast"]
    found.tick(2000)
    assert [row["device"] for row in found.opened()] == ["fast"]
    found.tick(1000)
    assert [row["device"] for row in found.opened()] == ["fast", "slow"]


def test_gaps_that_raised_an_alarm_become_usual_after_a_few() -> None:
    found = Partition(LEARNT)
    for _ in range(12):
        speak(found, 30, ("d-1", "t"))
        found.tick(7 * 3600)
    assert 3 <= len(found.opened()) <= 6


def test_what_is_never_heard_of_again_is_told_once_and_a_removed_device_not_at_all() -> None:
    found = Partition(FIXED)
    speak(found, 3, ("d-1", "a"), ("d-2", "a"))
    found.register("d-2", state="removed")
    for _ in range(100):
        found.tick(60)
    assert [(row["state"], row["device"]) for row in found.incidents] == [("opened", "d-1")]
    found.register("d-1", state="removed")
    found.tick(1)
    assert found.states() == ["opened", "closed"]
