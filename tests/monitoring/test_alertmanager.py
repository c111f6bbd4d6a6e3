"""Routes and inhibitions by the real Alertmanager: who hears of what, and what hides behind its cause."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.monitoring.servers import Alertmanager, shortened
from tests.support.waiting import wait_for

Labels = dict[str, str]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    server = Alertmanager(tmp_path_factory.mktemp("alertmanager"))
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "KafkaDown", "severity": "critical"}, "critical"),
        ({"alertname": "ReadingsLate", "severity": "warning"}, "warning"),
        ({"alertname": "DeviceIncident", "severity": "critical"}, "incidents"),
        ({"alertname": "Watchdog", "severity": "info"}, "heartbeat"),
    ],
)
def test_an_alert_goes_to_whom_it_concerns(alertmanager: Alertmanager, labels: Labels, receiver: str) -> None:
    assert alertmanager.receivers(**labels) == [receiver]


def alert(name: str, **labels: str) -> Labels:
    return {"alertname": name, "severity": "critical"} | labels


HIDDEN = [
    (alert("KafkaDown", engine="kafka"), alert("MessagesNotAcknowledged", service="bridge")),
    (alert("KafkaDown", engine="kafka"), alert("StageStandsStill", service="access")),
    (alert("KafkaDown", engine="kafka"), alert("MosquittoQueueGrowing", engine="mosquitto")),
    (alert("ClickHouseDown", engine="clickhouse"), alert("ReadingsNotStored")),
    (alert("ClickHouseDown", engine="clickhouse"), alert("ServiceNotReady", service="sink")),
    (alert("ServiceDown", service="sink"), alert("LagGrowing", service="sink")),
    (alert("ServiceDown", service="access"), alert("StageStandsStill", service="anomaly")),
    (alert("ServiceMissing", service="relay"), alert("TimeStandsStill", service="relay")),
    (alert("TimeStandsStill", service="relay"), alert("StageStandsStill", service="presence")),
    (alert("ServiceDown", service="bridge"), alert("MosquittoQueueGrowing", engine="mosquitto")),
    (alert("DiskFilling", disk="kafka"), alert("DiskFilling", disk="kafka", severity="warning")),
    (alert("DeadLetterFlood"), alert("DeadLettersRising", severity="warning")),
]
SHOWN = [
    (alert("KafkaDown", engine="kafka"), alert("DiskFilling", disk="kafka")),
    (alert("KafkaDown", engine="kafka"), alert("LedgerDifference")),
    (alert("ClickHouseDown", engine="clickhouse"), alert("StageStandsStill", service="access")),
    (alert("ServiceDown", service="sink"), alert("StageStandsStill", service="access")),
    (alert("DiskFilling", disk="kafka"), alert("DiskFilling", disk="clickhouse", severity="warning")),
    (alert("StageStandsStill", service="anomaly"), alert("StageStandsStill", service="access")),
]


@contextmanager
def fired(server: Alertmanager, cause: Labels, symptom: Labels, run: str) -> Iterator[Callable[[], list[str]]]:
    """The cause, then the symptom fires; what inhibits the symptom now. `run` tells trials apart."""

    def inhibitors(labels: Labels) -> list[str] | None:
        found = {tuple(sorted(a["labels"].items())): a["status"] for a in server.alerts()}
        one = found.get(tuple(sorted((labels | {"run": run}).items())))
        return one["inhibitedBy"] if one is not None and one["state"] != "unprocessed" else None

    def symptoms() -> list[str]:
        found = inhibitors(symptom)
        assert found is not None
        return found

    for labels in (cause, symptom):
        server.post([{"labels": labels | {"run": run}}])
        wait_for(partial(lambda which: inhibitors(which) is not None, labels), "Alertmanager to process the alert")
    yield symptoms
    server.post([{"labels": labels | {"run": run}, "endsAt": "2020-01-01T00:00:00Z"} for labels in (cause, symptom)])


@pytest.mark.parametrize(("cause", "symptom"), HIDDEN)
def test_what_follows_from_a_cause_hides_behind_it(alertmanager: Alertmanager, cause: Labels, symptom: Labels) -> None:
    with fired(alertmanager, cause, symptom, str(HIDDEN.index((cause, symptom)))) as inhibitors:
        wait_for(inhibitors, "the symptom to be inhibited")


@pytest.mark.parametrize(("cause", "other"), SHOWN)
def test_what_has_a_cause_of_its_own_is_shown(alertmanager: Alertmanager, cause: Labels, other: Labels) -> None:
    with fired(alertmanager, cause, other, f"shown {SHOWN.index((cause, other))}") as inhibitors:
        assert not inhibitors()


def test_times_of_rules_are_shortened_and_nothing_else() -> None:
    assert shortened("rate(a[5m] offset 4m) > 60", 10) == "rate(a[30s] offset 24s) > 60"
    assert shortened("sum(rate(b_5m[1h])) < 2", 60) == "sum(rate(b_5m[60s])) < 2"
    assert shortened("30s", 10) == "3s"
