"""What dashboards are made of, as values: a dashboard is rows of panels, a panel asks one or more questions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

DATASOURCE: Final = {"type": "prometheus", "uid": "millrace-prometheus"}
"""As deploy/grafana/provisioning/datasources names it."""
WIDTH: Final = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Family:
    """A declared metric: as prometheus_client describes it, without the suffix of counters and histograms."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> tuple[str, ...]:
        """Names under which Prometheus stores it."""
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


def p99(histogram: str, by: str = "") -> str:
    """The delay that 99 of 100 stay below, over a minute. `by`: an additional label to group by."""
    return f"histogram_quantile(0.99, sum by (le{', ' + by if by else ''}) (rate({histogram}_bucket[1m])))"


@dataclass(frozen=True, slots=True)
class Panel:
    """`asks`: (PromQL, legend). `kind`: timeseries, stat or table. `limit`: above it is bad; drawn as a line."""

    title: str
    asks: Sequence[tuple[str, str]]
    unit: str = "short"
    meaning: str = ""
    kind: str = "timeseries"
    width: int = 8
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`uid` is the last part of its address: /d/{uid}. `instances_of`: a service whose instances can be chosen."""

    uid: str
    title: str
    rows: Sequence[Row]
    meaning: str = ""
    instances_of: str | None = None
    variables: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def expressions(self) -> list[str]:
        return [ask for row in self.rows for panel in row.panels for ask, _ in panel.asks]


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it. The same dashboard gives the same JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.rows:
        panels.append(_row(row, len(panels) + 1, y))
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = 4 if panel.kind == "stat" else 8
            place = {"h": height, "w": panel.width, "x": x, "y": y}
            panels.append(_panel(panel, len(panels) + 1, place))
            x += panel.width
        y += height
    return {
        "uid": dashboard.uid,
        "title": f"Millrace: {dashboard.title}",
        "description": dashboard.meaning,
        "tags": ["millrace"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(dashboard)},
        "links": [{"type": "dashboards", "title": "Millrace", "tags": ["millrace"], "asDropdown": True}],
        "panels": panels,
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    found = list(dashboard.variables)
    if dashboard.instances_of is not None:
        query = f'label_values(up{{service="{dashboard.instances_of}"}}, instance)'
        found.append(
            {
                "name": "instance",
                "type": "query",
                "datasource": DATASOURCE,
                "query": {"query": query, "refId": "instance"},
                "refresh": 2,
                "includeAll": True,
                "allValue": ".*",
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
            }
        )
    return found


def _row(row: Row, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": DATASOURCE,
            "expr": ask,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for at, (ask, legend) in enumerate(panel.asks)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        defaults |= {
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": {"thresholdsStyle": {"mode": "line"}} if panel.kind == "timeseries" else {},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {},
    }
