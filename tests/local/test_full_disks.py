"""Full disks under a whole platform: nothing acknowledged is lost, and the platform goes on when there is room."""

from pathlib import Path

import pytest

from tests.support import namespace

LIMIT_S = 600.0


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize(
    "scenario",
    [
        "mosquitto",
        "all-on-one",
        pytest.param("all-on-one-and-kill-9", marks=pytest.mark.chaos),
        pytest.param("kafka", marks=pytest.mark.chaos),
        pytest.param("clickhouse", marks=pytest.mark.chaos),
        pytest.param("run-and-logs", marks=pytest.mark.chaos),
    ],
)
def test_a_full_disk_loses_nothing_that_was_acknowledged(scenario: str, tmp_path: Path) -> None:
    print(namespace.run("tests.local.full_disks", scenario, str(tmp_path), timeout_s=LIMIT_S))
