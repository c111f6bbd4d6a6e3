"""Incidents become alerts: the rule by tables, the way by the real ClickHouse and the real Alertmanager."""

import asyncio
import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitoring.notify.app import Memory, Notifier
from monitoring.notify.core import AlertOptions, Incident, Sent, begin, plan_alerts
from monitoring.notify.settings import NotifySettings
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from runtime.probes import Probes
from schemas.vocabulary import Severity
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from tests.monitoring.servers import Alertmanager
from tests.servers import ClickHouseServer
from tests.support.waiting import WITHIN_S, wait_for

S = 1000
NOW = 1_700_000_000 * S
MANNER = AlertOptions(hold_ms=300 * S, keep_ms=60 * S, link="http://x/{incident}?d={device}&m={metric}")
OPEN = Incident(
    "00ab", "device", "pump-1", "motor", "vibration", "residual", Severity.WARNING, NOW - 5 * S, None, 1, 3,
    "9.2; usual at this hour 1 to 2",
)  # fmt: skip


def ends(alert: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(alert["endsAt"]).timestamp() * 1000)


def test_an_open_incident_is_sent_with_device_explanation_and_link_and_sent_again() -> None:
    alerts, sent = plan_alerts([OPEN], {}, NOW, MANNER)
    assert alerts[0]["labels"] == {
        "alertname": "DeviceIncident", "severity": "warning", "incident": "00ab", "scope": "device", "device": "pump-1",
        "channel": "motor", "metric": "vibration", "detector": "residual",
    }  # fmt: skip
    assert alerts[0]["annotations"]["summary"] == "pump-1, vibration: 9.2; usual at this hour 1 to 2"
    assert alerts[0]["generatorURL"] == "http://x/00ab?d=pump-1&m=vibration"
    assert ends(alerts[0]) == NOW + 60 * S
    again, later = plan_alerts([OPEN], sent, NOW + 10 * S, MANNER)
    assert ends(again[0]) == NOW + 70 * S
    assert later == sent == {"00ab": Sent(NOW)}


CLOSED = replace(OPEN, closed_ms=NOW - S)


@pytest.mark.parametrize(
    ("before", "at", "until"),
    [
        ({"00ab": Sent(NOW - 3600 * S)}, NOW, NOW),  # known for long: ends at once
        ({"00ab": Sent(NOW - 100 * S)}, NOW, NOW + 200 * S),  # people may not have been notified yet
        ({}, NOW, NOW + 300 * S),  # opened and closed between two looks, or while we were away
    ],
)
def test_an_incident_that_closes_ends_when_people_had_the_time_to_hear_of_it(
    before: dict[str, Sent], at: int, until: int
) -> None:
    alerts, sent = plan_alerts([CLOSED], before, at, MANNER)
    assert [ends(alert) for alert in alerts] == [until]
    assert sent["00ab"].until_ms == until
    held, same = plan_alerts([CLOSED], sent, until - S, MANNER)
    assert [ends(alert) for alert in held] == ([until] if until - S < until else [])
    assert same == sent
    assert plan_alerts([CLOSED], sent, until, MANNER)[0] == []


def test_an_incident_that_opened_again_is_sent_again_though_it_closed_in_between() -> None:
    _, sent = plan_alerts([CLOSED], {}, NOW, MANNER)
    later = NOW + 3600 * S
    alerts, _ = plan_alerts([replace(CLOSED, closed_ms=later - S)], sent, later, MANNER)
    assert [ends(alert) for alert in alerts] == [later + 300 * S]
    (alert,), again = plan_alerts([OPEN], sent, later, MANNER)
    assert ends(alert) == later + 60 * S
    assert again == {"00ab": Sent(later)}


def test_what_was_over_before_the_first_start_is_not_sent() -> None:
    alerts, sent = plan_alerts([CLOSED, replace(OPEN, incident="01")], begin([CLOSED], NOW), NOW, MANNER)
    assert [alert["labels"]["incident"] for alert in alerts] == ["01"]
    assert set(sent) == {"00ab", "01"}


def test_a_lesser_severity_is_not_sent_and_a_rise_is_a_new_alert() -> None:
    options = replace(MANNER, least=Severity.WARNING)
    assert plan_alerts([replace(OPEN, severity=Severity.INFO)], {}, NOW, options) == ([], {})
    alerts, _ = plan_alerts([replace(OPEN, severity=Severity.CRITICAL)], {"00ab": Sent(NOW)}, NOW, options)
    assert alerts[0]["labels"]["severity"] == "critical"


def test_an_incident_of_a_group_says_of_how_many() -> None:
    group = replace(OPEN, scope="site", device="north", devices=4711, channel="")
    (alert,), _ = plan_alerts([group], {}, NOW, MANNER)
    assert alert["annotations"]["summary"].startswith("4711 devices of site north, vibration: ")
    assert "channel" not in alert["labels"]


def test_a_device_whose_clock_is_ahead_starts_no_alert_in_the_future() -> None:
    (alert,), _ = plan_alerts([replace(OPEN, opened_ms=NOW + 3600 * S)], {}, NOW, MANNER)
    assert alert["startsAt"] == "2023-11-14T22:13:20.000Z"


def test_what_ended_long_ago_is_forgotten() -> None:
    old = {"a": Sent(0, NOW - 8 * 86_400 * S), "b": Sent(0, NOW - S), "c": Sent(0)}
    assert set(plan_alerts([], old, NOW, MANNER)[1]) == {"b", "c"}


def test_the_memory_outlives_and_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "told.json")
    assert memory.load() is None
    memory.store({"a": Sent(1), "b": Sent(2, 3, 1)})
    assert Memory(tmp_path / "told.json").load() == {"a": Sent(1), "b": Sent(2, 3, 1)}
    (tmp_path / "told.json").write_text("[1]")
    with pytest.raises(RefusedError, match="remove it"):
        memory.load()


@pytest.fixture
def endless() -> Iterator[int]:
    """The port of a server whose answer never ends: a byte comes in time for every read, and no last one."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
                while not over.wait(0.05):
                    self.request.sendall(b"x")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        over.set()
        server.shutdown()


def test_a_notifier_that_hangs_in_a_request_is_not_live(endless: int, tmp_path: Path) -> None:
    settings = NotifySettings(clickhouse_url=f"http://someone@127.0.0.1:{endless}/x", notify_state=tmp_path / "told")
    probes = Probes("127.0.0.1:0", silence_s=WITHIN_S)
    probes.start()
    try:
        hangs = Notifier(settings, probes.worker("notify", 0.5))
        asyncio.run(hangs.start())
        wait_for(lambda: "notify" in probes.wrong(False), "/health/live to notice the thread")
        asyncio.run(hangs.stop())
    finally:
        probes.stop()


# ---- the way, with the real servers


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    server = Alertmanager(tmp_path_factory.mktemp("alertmanager"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouseServer) -> MigrationSettings:
    url = f"http://{clickhouse.user}@{clickhouse.host}:{clickhouse.port}/notify"
    settings = MigrationSettings(clickhouse_url=url, clickhouse_password_file=clickhouse.password_file)
    migrate(settings)
    return settings


@pytest.fixture
def happens(database: MigrationSettings) -> Callable[..., None]:
    """Stores a row of telemetry.incidents as the sink does."""
    db = ClickHouse(database)
    offset = iter(range(1, 1000))

    def row(incident: str, state: str, device: str, partition: int = 0, score: float = 0.5) -> None:
        now = f"'{datetime.now(UTC):%Y-%m-%d %H:%M:%S}'"
        closed = now if state == "closed" else "NULL"
        values = {
            "incident": f"'{incident}'", "state": f"'{state}'", "scope": "'device'", "device": f"'{device}'",
            "channel": "'motor'", "metric": "'vibration'", "detector": "'residual'", "severity": "1", "time": now,
            "opened_at": now, "peak_at": now, "last_at": now, "closed_at": closed, "peak_score": str(score),
            "points": "3", "devices": "1", "explanation": f"'strange {score}'", "raw_epoch": "0",
            "raw_partition": str(partition), "raw_offset": str(next(offset)), "row": "0", "append_time": now,
        }  # fmt: skip
        db.command(f"INSERT INTO incidents ({', '.join(values)}) VALUES ({', '.join(values.values())})")

    return row


def notifier(database: MigrationSettings, alertmanager: Alertmanager, state: Path) -> Notifier:
    return Notifier(
        NotifySettings(
            clickhouse_url=database.clickhouse_url,
            clickhouse_password_file=database.clickhouse_password_file,
            alertmanager_url=alertmanager.url,
            notify_state=state,
            notify_hold_s=1.0,
        )
    )


def now_ms() -> int:
    return round(time.time() * 1000)


def shown(alertmanager: Alertmanager, incident: str) -> list[dict[str, Any]]:
    return [a for a in alertmanager.alerts() if a["labels"].get("incident") == incident]


def until(happened: Callable[[], bool], what: str) -> None:
    wait_for(happened, what)


def test_an_incident_reaches_alertmanager_once_and_ends_when_it_closes(
    database: MigrationSettings, alertmanager: Alertmanager, happens: Callable[..., None], tmp_path: Path
) -> None:
    sent = notifier(database, alertmanager, tmp_path / "told")
    assert sent.once(now_ms()) and sent.wrong() is None
    happens("a1", "opened", "pump-7")
    happens("a1", "updated", "pump-7", score=0.9)
    assert sent.once(now_ms()) and sent.once(now_ms())
    (alert,) = shown(alertmanager, "a1")
    assert alert["annotations"]["summary"] == "pump-7, vibration: strange 0.9"
    assert alert["generatorURL"].endswith("var-device=pump-7")
    assert alert["receivers"] == [{"name": "incidents"}]
    happens("a1", "closed", "pump-7", score=0.9)
    time.sleep(1.1)  # it was sent for as long as is asked for
    assert sent.once(now_ms())
    until(lambda: not shown(alertmanager, "a1"), "the alert does not end")


def test_parts_of_an_incident_in_two_partitions_are_one_and_end_together(
    database: MigrationSettings, alertmanager: Alertmanager, happens: Callable[..., None], tmp_path: Path
) -> None:
    sent = notifier(database, alertmanager, tmp_path / "told")
    happens("b1", "opened", "north", partition=0)
    happens("b1", "opened", "north", partition=1)
    happens("b1", "closed", "north", partition=0)
    assert sent.once(now_ms())
    assert len(shown(alertmanager, "b1")) == 1
    happens("b1", "closed", "north", partition=1)
    time.sleep(1.1)
    assert sent.once(now_ms())
    until(lambda: not shown(alertmanager, "b1"), "the alert does not end")


def test_what_opened_and_closed_while_notify_was_down_is_sent_once(
    database: MigrationSettings, alertmanager: Alertmanager, happens: Callable[..., None], tmp_path: Path
) -> None:
    assert notifier(database, alertmanager, tmp_path / "told").once(now_ms())
    happens("c1", "opened", "pump-9")
    happens("c1", "closed", "pump-9")
    sent = notifier(database, alertmanager, tmp_path / "told")
    assert sent.once(now_ms())
    assert len(shown(alertmanager, "c1")) == 1
    time.sleep(1.1)
    assert notifier(database, alertmanager, tmp_path / "told").once(now_ms())
    until(lambda: not shown(alertmanager, "c1"), "it is sent again after a restart")


def test_alertmanager_away_is_waited_for_and_nothing_is_forgotten(
    database: MigrationSettings, happens: Callable[..., None], tmp_path: Path
) -> None:
    server = Alertmanager(tmp_path / "alertmanager")
    sent = notifier(database, server, tmp_path / "told")
    happens("d1", "opened", "pump-3")
    assert not sent.once(now_ms())
    assert "alertmanager" in (sent.wrong() or "")
    server.start()
    try:
        assert sent.once(now_ms())
        assert len(shown(server, "d1")) == 1
        server.stop()
        server.start()  # it forgets what it was sent
        assert sent.once(now_ms())
        assert len(shown(server, "d1")) == 1
    finally:
        server.stop()
