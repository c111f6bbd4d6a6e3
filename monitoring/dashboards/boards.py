"""All dashboards: those made by hand, and one for each service; checked against what is declared."""

from collections.abc import Mapping, Sequence, Set
from typing import Final

from monitoring.dashboards.anomalies import ANOMALIES
from monitoring.dashboards.fleet import FLEET
from monitoring.dashboards.model import Dashboard, Family
from monitoring.dashboards.pipeline import PIPELINE
from monitoring.dashboards.quality import QUALITY
from monitoring.dashboards.services import service
from monitoring.promql import names

KNOWN_BESIDE: Final = frozenset(
    (
        "up",
        "ALERTS",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    )
)
"""Metrics that are there without being declared: Prometheus' own, and those of every process."""

BOARDS: Final = (PIPELINE, FLEET, QUALITY, ANOMALIES)


class UnknownMetricError(ValueError):
    """A dashboard asks for what nobody declares; every such question is named."""


def dashboards(services: Mapping[str, Sequence[Family]]) -> list[Dashboard]:
    """All dashboards. `services`: what each declares.

    Raises UnknownMetricError when one asks for a metric that is not declared. What recording rules make (their names
    have colons) is not known here; a test compares it with the rules.
    """
    found = [*BOARDS, *(service(name, families) for name, families in services.items())]
    declared = {name for families in services.values() for family in families for name in family.exposed}
    check(found, declared | KNOWN_BESIDE)
    return found


def check(found: Sequence[Dashboard], known: Set[str]) -> None:
    wrong = [
        f"{board.uid}: {name} (in {ask})"
        for board in found
        for ask in board.expressions()
        for name in sorted(names(ask) - known)
        if ":" not in name
    ]
    if wrong:
        raise UnknownMetricError("metrics that no service declares:\n" + "\n".join(wrong))
