"""Full disks under a whole platform: nothing acknowledged is lost, and the platform goes on when there is room."""

from pathlib import Path

import pytest

from tests.support import namespace

LIMIT_S = 600.0


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("mosquitto", marks=pytest.mark.long),
        pytest.param("all-on-one", marks=pytest.mark.chaos),
        pytest.param("all-on-one-and-kill-9", marks=pytest.mark.chaos),
        pytest.param("kafka", marks=pytest.mark.chaos),
        pytest.param("clickhouse", marks=pytest.mark.chaos),
        pytest.param("run-and-logs", marks=pytest.mark.chaos),
    ],
)
def test_a_full_disk_loses_nothing_that_was_acknowledged(scenario: str, tmp_path: Path) -> None:
    print(namespace.run("tests.local.full_disks", scenario, str(tmp_path), timeout_s=LIMIT_S))


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("inserts", [30, pytest.param(500, marks=pytest.mark.chaos)])
def test_a_disk_that_becomes_full_during_an_insert_leaves_no_acknowledged_insert_unread(
    inserts: int, tmp_path: Path
) -> None:
    """chdb ignores ENOSPC: it acknowledges an insert, and commits a merge, whose files are empty."""
    print(namespace.run("tests.local.full_clickhouse", str(tmp_path), str(inserts), timeout_s=LIMIT_S))
