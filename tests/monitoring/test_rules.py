"""Rules by the real promtool: each alert fires for what it is meant for, says so, and keeps quiet beside it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.cases import CASES, Case
from tests.monitoring.rules import ROOT, rules

ALWAYS_FIRES = "Watchdog"


def promtool(*words: object) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_prometheus_takes_the_configuration(name: str) -> None:
    promtool("check", "config", ROOT / "deploy" / "prometheus" / name)


def test_alertmanager_takes_the_configuration() -> None:
    file = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        name = rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert set(rule["annotations"]) == {"summary", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    pages = {file.stem for file in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert pages - {"DeviceIncident"} == {rule["alert"] for rule in rules()}
    for page in pages:
        text = (ROOT / "docs" / "runbooks" / f"{page}.md").read_text()
        found = [line for line in text.splitlines() if line.startswith("#")]
        assert found == [f"# {page}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"], page


def test_every_alert_is_tried() -> None:
    tried = {(case.alert, case.labels["severity"]) for case in CASES}
    assert tried == {(r["alert"], r["labels"]["severity"]) for r in rules() if r["alert"] != ALWAYS_FIRES}


def expected(case: Case, labels: dict[str, str], says: str) -> dict[str, Any]:
    runbook = f"docs/runbooks/{case.alert}.md"
    return {"exp_labels": labels, "exp_annotations": {"summary": says, "runbook": runbook}}


def trials(case: Case) -> list[dict[str, Any]]:
    """promtool's tests of a case: one with the series that make it fire, one with those that do not."""
    labels = dict(case.labels)
    fire = [expected(case, labels, case.says)]
    fire += [expected(case, labels | dict(other), says) for other, says in case.also]
    found = []
    for series, at, alerts in ((case.fires, case.at, fire), (case.quiet, case.quiet_at or case.at, [])):
        found.append(
            {
                "interval": case.interval,
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": at, "alertname": case.alert, "exp_alerts": alerts}],
            }
        )
    return found


def run(tmp_path: Path, evaluation: str, alert: str, tests: list[dict[str, Any]]) -> None:
    """Only with the rules that matter: promtool evaluates all it is given at each step."""
    chosen = [rule for rule in rules() if rule["alert"] == alert]
    recorded = [rule for rule in rules("record") if any(rule["record"] in alert["expr"] for alert in chosen)]
    group = {"name": alert, "rules": recorded + chosen}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    file = tmp_path / "rules.test.yml"
    head = {"rule_files": ["rules.yml"], "evaluation_interval": evaluation}
    file.write_text(yaml.safe_dump(head | {"tests": tests}, sort_keys=False))
    promtool("test", "rules", file)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.labels['severity']}-{case.says[:24]}")
def test_an_alert_fires_for_what_it_is_meant_for_and_not_beside_it(case: Case, tmp_path: Path) -> None:
    run(tmp_path, case.interval, case.alert, trials(case))


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    case = Case(ALWAYS_FIRES, "alerts are delivered", {"severity": "info"}, {"up": "1x4"}, {})
    run(tmp_path, "15s", ALWAYS_FIRES, trials(case)[:1])
