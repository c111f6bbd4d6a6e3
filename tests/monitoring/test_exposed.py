"""Every question of rules, dashboards and runbooks is one that a running platform can answer."""

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from cli.declared import services
from cli.main import millrace
from monitoring.dashboards.boards import KNOWN_BESIDE
from monitoring.promql import Selector, selectors
from tests.chaos.running import Running
from tests.monitoring.boards import BOARDS
from tests.monitoring.exposed import Exposed, of
from tests.monitoring.rules import rules
from tests.monitoring.runbooks import DOCUMENTS, blocks, commands
from tests.support.waiting import wait_for

pytestmark = pytest.mark.long

SERVICES = services()
LATER = {"status": {"5.."}, "stage": {"anomaly|presence|aggregate"}, "table": {"anomalies|incidents"}}
"""Values that a platform without trouble does not show."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("exposed") / "data") as running:
        running.command("fleet", "simulate", "--devices", "40", "--rate", "200", "--seconds", "4")
        running.wait_quiet(at_least=700)
        wait_for(lambda: "count" in of(running.data).labels["millrace_ledger"], "the watch to see the ledger")
        yield running


def asked() -> list[tuple[str, str]]:
    found = [(f"alert {rule['alert']}", rule["expr"]) for rule in rules()]
    found += [(f"rule {rule['record']}", rule["expr"]) for rule in rules("record")]
    found += [(f"dashboard {board.uid}", ask) for board in BOARDS for ask in board.expressions()]
    found += [(f"runbook {page.stem}", line) for page in DOCUMENTS for line in blocks(page, "promql")]
    return found


def wrong(exposed: Exposed, selector: Selector) -> Iterator[str]:
    """What is wrong with a selector: its name, its labels, or a value that is not among those seen."""
    name, matchers = selector
    if name not in exposed.names:
        yield f"{name} is not exposed"
        return
    seen = exposed.labels.get(name)
    for label, operator, value in matchers if seen else ():
        if label in ("job", "instance"):
            continue
        if label == "service":
            if value not in SERVICES:
                yield f"there is no service {value!r}"
        elif label not in seen:
            yield f"{name} has no label {label}"
        elif operator in ("=", "=~") and value not in LATER.get(label, ()):
            pattern = value if operator == "=~" else re.escape(value)
            if not any(re.fullmatch(pattern, known) for known in seen[label]):
                yield f"{name}: no {label}{operator}{value!r}, but {sorted(seen[label])}"


def test_every_question_asks_for_what_is_exposed(platform: Running) -> None:
    exposed = of(platform.data)
    exposed.names |= {
        name for family in SERVICES["notify"] for name in family.exposed
    }  # it runs beside an Alertmanager
    found = [
        f"{where}: {what}"
        for where, ask in asked()
        for selector in selectors(ask)
        if ":" not in selector[0] and selector[0] not in KNOWN_BESIDE
        for what in wrong(exposed, selector)
    ]
    assert not found, "\n".join(found)


def test_every_query_of_the_runbooks_is_answered(platform: Running) -> None:
    queries = [line for page in DOCUMENTS for line in commands(page) if line.startswith("millrace sql")]
    assert len(queries) > 10
    for line in queries:
        words = re.fullmatch(r'millrace sql "(.*)"', line)
        assert words is not None, line
        done = CliRunner().invoke(millrace, ["sql", words[1], "--data", str(platform.data)], catch_exceptions=False)
        assert done.exit_code == 0, f"{line}\n{done.output}"


def test_the_commands_of_the_runbooks_run(platform: Running) -> None:
    assert "ready" in platform.command("status")
    assert "the ledger is consistent" in platform.command("ledger", "verify")
    assert '"kind":"tick"' in platform.command("tail", "telemetry.raw", "--all", "-n", "20").replace(" ", "")
    assert "topic/telemetry.raw" in platform.command("tail", "platform.control", "--from-beginning", "--no-follow")
