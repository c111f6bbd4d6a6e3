"""The running service against a real Kafka: readings in, anomalies and incidents out, through kill -9, by marks and
settings in band; and how long it takes."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas import incidents
from schemas.control import Mark
from schemas.headers import table
from schemas.topics import ANOMALIES, INCIDENTS, READINGS
from streams.anomaly.core.stage import AnomalyStage
from tests.anomaly.scenario import Scenario
from tests.anomaly.support import NOW_MS, data, marked, settings, tick
from tests.servers import KafkaServer
from tests.support.service import StageService, as_record, until, without_provenance

PARTITIONS = 2
LIMITS = """\
rules:
- detectors: [limits: {high: 80, high_clear: 75, severity: critical}]
incidents: {quiet: 10s, cool_down: 10s}
"""


@pytest.fixture
def service(kafka_fresh: Callable[[], KafkaServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageService]:
    found = StageService(kafka_fresh(), tmp_path_factory.mktemp("anomaly"), "anomaly", READINGS, PARTITIONS)
    try:
        yield found
    finally:
        found.close()


def test_it_tells_what_the_core_tells_through_kills_and_nothing_twice(service: StageService) -> None:
    scenarios = [Scenario(seed) for seed in range(PARTITIONS)]

    def send(count: int) -> None:
        for partition, scenario in enumerate(scenarios):
            for record in scenario.records(count):
                service.send(partition, record)
        service.flush()

    send(150)
    service.start()
    until(lambda: service.metric("millrace_anomaly_readings_total") > 0, 30, "work before the kill")
    service.end(signal.SIGKILL)
    send(150)
    service.start()
    send(150)
    until(lambda: service.metric("millrace_anomaly_readings_total") > 0, 30, "work after the kill")
    service.end(signal.SIGKILL)
    service.start()
    for partition, scenario in enumerate(scenarios):  # a last tick is answered when all is
        service.send(partition, tick(scenario.offset, scenario.now_ms + 1000))
        scenario.offset += 1
    service.flush()
    until(lambda: all(_answered(service, p) == scenarios[p].offset - 1 for p in range(PARTITIONS)), 60, "all answers")
    assert service.end(signal.SIGTERM) == 0, service.log.read_text()
    for partition in range(PARTITIONS):
        _is_what_the_core_tells(service, partition)


def _answered(service: StageService, partition: int) -> int:
    written = service.written(INCIDENTS, partition)
    return written[-1][0] if written else -1


def _is_what_the_core_tells(service: StageService, partition: int) -> None:
    state = AnomalyStage().create(partition)
    written = {topic: dict(service.written(topic, partition)) for topic in (ANOMALIES, INCIDENTS)}
    expected = 0
    for found in service.read(READINGS, partition):
        record = as_record(found, partition)
        for output in state.apply(record):
            one = written[output.topic].pop(record.src)
            assert (one.value() or b"") == output.value
            assert without_provenance(one) == list(output.headers)
            expected += 1
    assert expected > 100 and not written[ANOMALIES] and not written[INCIDENTS], "nothing more, nothing twice"


class Series:
    """One device's temperature, a reading a second, in partition 0."""

    def __init__(self, service: StageService) -> None:
        self.service, self.offset, self.now_ms = service, 0, NOW_MS

    def say(self, *values: float) -> None:
        for value in values:
            self.now_ms += 1000
            self.send(data(self.offset, [{"value": value, "time": self.now_ms}]))
            self.send(tick(self.offset, self.now_ms))
        self.service.flush()

    def send(self, record: Any) -> None:
        self.service.send(0, record)
        self.offset += 1

    def incidents(self) -> list[dict[str, Any]]:
        """All rows written so far, once everything is answered."""
        until(lambda: _answered(self.service, 0) == self.offset - 1, 30, "answers")
        found = []
        for _, one in self.service.written(INCIDENTS, 0):
            if one.value():
                found += incidents.read(table(one.headers()), one.value()).to_pylist()
        return found


def test_settings_and_marks_change_in_band_what_is_told(service: StageService) -> None:
    series = Series(service)
    service.start()
    series.send(settings(series.offset, LIMITS))
    series.say(70, 81, 95, 70, *[70] * 25)
    written = series.incidents()
    assert [row["state"] for row in written] == ["opened", "closed"]
    assert written[0]["explanation"] == "81; above the limit 80" and written[0]["severity"] == 2
    assert (written[1]["points"], written[1]["peak_value"]) == (2, 95)
    row = written[0]
    about = (row["scope"], row["device"], row["channel"], row["metric"], row["detector"])
    for n in range(2):
        series.send(marked(series.offset, Mark(row["incident"], "false-alarm", row["publisher"], n, *about)))
    series.say(81, 87, 70, *[70] * 25)
    assert series.incidents() == written, "its limit is 88 now, and two marks on one incident count once"
    series.send(marked(series.offset, Mark(row["incident"], "confirmed", row["publisher"], 3, *about)))
    series.say(81)
    assert [row["state"] for row in series.incidents()] == ["opened", "closed", "opened"]
    outcomes = {
        name: service.metric(f'millrace_anomaly_marks_total{{outcome="{name}"}}') for name in ("raised", "kept")
    }
    assert outcomes == {"raised": 1, "kept": 1}
    assert service.metric('millrace_anomaly_incidents_total{detector="limits",severity="critical"}') == 2
