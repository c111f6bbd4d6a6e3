"""Dashboards: made from declared metrics, in a form that Grafana takes; PromQL is read by the real promtool."""

import json
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.declared import services
from cli.errors import Exit
from cli.main import millrace
from monitoring.dashboards.boards import UnknownMetricError, check
from monitoring.dashboards.model import DATASOURCE, WIDTH, Dashboard, Family, Panel, Row, rendered
from monitoring.dashboards.services import panel_of
from monitoring.promql import names, selectors
from tests.monitoring.boards import BOARDS
from tests.monitoring.rules import rules

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("up", {"up"}),
        (
            'sum by (le, a) (rate(x_bucket{le="2.0", a!~"sum|b"}[5m] offset 4m)) / on () group_left () y > 1e3',
            {"x_bucket", "y"},
        ),
        ("max without (b)(a) unless on (service) c:d:e == bool 3", {"a", "c:d:e"}),
        ("sum(a) by (b) and count by(c) (d) or vector(1)", {"a", "d"}),
        ("1 - x + NaN > Inf", {"x"}),
    ],
)
def test_names_are_those_of_metrics_and_nothing_else(expression: str, found: set[str]) -> None:
    assert names(expression) == found


def test_matchers_are_found_with_their_metric() -> None:
    assert selectors('rate(a{b="c, d", e=~"f|g"}[1m]) + h{}') == [
        ("a", (("b", "=", "c, d"), ("e", "=~", "f|g"))),
        ("h", ()),
    ]


def test_a_metric_that_nobody_declares_is_refused_with_all_the_others() -> None:
    board = Dashboard("x", "X", [Row("r", [Panel("a", [("rate(gone[1m])", "")]), Panel("b", [("lost + up", "")])])])
    with pytest.raises(UnknownMetricError) as told:
        check([board], {"up"})
    assert "x: gone (in rate(gone[1m]))" in str(told.value)
    assert "x: lost (in lost + up)" in str(told.value)
    assert "up (" not in str(told.value)


def test_every_service_has_a_dashboard_with_all_that_it_declares() -> None:
    by_uid = {board.uid: board for board in BOARDS}
    for name, families in services().items():
        asked = {metric for ask in by_uid[f"millrace-{name}"].expressions() for metric in names(ask)}
        for family in families:
            assert asked & set(family.exposed), f"{name}: {family.name} is not shown"


@pytest.mark.parametrize(
    ("family", "ask", "unit"),
    [
        (
            Family("a_bytes", "counter", "", ("topic", "partition")),
            'sum by (topic) (rate(a_bytes_total{w="x"}[1m]))',
            "Bps",
        ),
        (Family("a_bytes", "gauge", ""), 'sum (a_bytes{w="x"})', "bytes"),
        (Family("a_timestamp_seconds", "gauge", ""), 'time() - min (a_timestamp_seconds{w="x"})', "s"),
        (Family("a_end_timestamp_seconds", "gauge", ""), 'min (a_end_timestamp_seconds{w="x"}) - time()', "s"),
    ],
)
def test_a_panel_suits_the_kind_of_its_metric(family: Family, ask: str, unit: str) -> None:
    panel = panel_of(family, 'w="x"')
    assert (panel.asks[0][0].replace("sum(", "sum (").replace("min(", "min ("), panel.unit) == (ask, unit)


def test_recorded_names_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    asked = {name for board in BOARDS for ask in board.expressions() for name in names(ask) if ":" in name}
    asked |= {name for rule in rules() for name in names(rule["expr"]) if ":" in name}
    assert not asked - recorded


def test_every_question_is_promql(tmp_path: Path) -> None:
    asks = sorted({ask for board in BOARDS for ask in board.expressions()})
    found = [{"record": f"question:{number}", "expr": ask} for number, ask in enumerate(asks)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": found}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_have_their_places(board: Dashboard) -> None:
    made = rendered(board)
    panels = made["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [panel["gridPos"] for panel in panels]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= WIDTH for p in places)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_datasources_are_those_that_dashboards_ask() -> None:
    text = (ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "millrace.yml").read_text()
    found = {source["uid"]: source["type"] for source in yaml.safe_load(text)["datasources"]}
    assert found[DATASOURCE["uid"]] == DATASOURCE["type"]


def test_the_command_writes_what_grafana_and_alertmanager_read(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://example.invalid/hook?token=secret\n")
    old = tmp_path / "out" / "dashboards" / "millrace-gone.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    done = call(
        tmp_path / "out",
        MILLRACE_ALERT_WEBHOOK_URL_FILE=str(tmp_path / "url"),
        MILLRACE_ALERT_HEARTBEAT_URL_FILE=str(tmp_path / "url"),
        MILLRACE_ALERT_MAIL_TO="a@example.invalid,b@example.invalid",
        MILLRACE_ALERT_MAIL_FROM="millrace@example.invalid",
        MILLRACE_ALERT_MAIL_SERVER="mail.example.invalid:587",
        MILLRACE_ALERT_MAIL_USER="millrace",
        MILLRACE_ALERT_MAIL_PASSWORD_FILE="/keys/mail",
    )
    assert done == (0, "")
    assert not old.exists()
    boards = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "out" / "dashboards").iterdir()}
    assert {"millrace-pipeline", "millrace-fleet", "millrace-quality", "millrace-anomalies", "millrace-sink"} <= set(
        boards
    )
    assert all(board["uid"] == name for name, board in boards.items())
    file = tmp_path / "out" / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    receivers = {r["name"]: r for r in yaml.safe_load(file.read_text())["receivers"]}
    assert receivers["critical"]["webhook_configs"][0]["url"] == "https://example.invalid/hook?token=secret"
    assert [mail["to"] for mail in receivers["incidents"]["email_configs"]] == [
        "a@example.invalid",
        "b@example.invalid",
    ]
    assert "email_configs" not in receivers["heartbeat"]


def test_without_settings_nobody_is_told_and_all_the_same_it_is_a_configuration(tmp_path: Path) -> None:
    assert call(tmp_path) == (0, "")
    checked = subprocess.run(
        ["amtool", "check-config", tmp_path / "alertmanager" / "alertmanager.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_mistakes_in_receivers_are_told_all_at_once_and_no_secret_is_printed(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("secret")
    code, told = call(
        tmp_path,
        MILLRACE_ALERT_WEBHOOK_URL_FILE=str(tmp_path / "url"),
        MILLRACE_ALERT_HEARTBEAT_URL_FILE=str(tmp_path / "nowhere"),
        MILLRACE_ALERT_MAIL_TO="nobody",
        MILLRACE_ALERT_MAIL_SERVER="mail",
        MILLRACE_ALERT_MAIL_USER="millrace",
    )
    assert code == Exit.CONFIG
    assert len(told.splitlines()) == 6, told
    for word in ("WEBHOOK", "HEARTBEAT", "'nobody'", "MAIL_FROM", "MAIL_SERVER='mail'", "belong together"):
        assert word in told
    assert "secret" not in told


def call(folder: Path, **environment: str) -> tuple[int, str]:
    base = str(ROOT / "deploy" / "alertmanager" / "alertmanager.yml")
    words = ["monitoring", str(folder), "--alertmanager", base]
    done = CliRunner().invoke(millrace, words, env=environment)
    return done.exit_code, done.stderr
