"""A dashboard for a service: its health, then a panel for each metric that it declares. Nobody has to think of it."""

from collections.abc import Sequence
from typing import Final

from monitoring.dashboards.model import Dashboard, Family, Panel, Row

_MANY: Final = frozenset(("partition", "device"))
"""Labels of which there may be many: a panel adds up over them."""


def service(name: str, families: Sequence[Family], title: str | None = None) -> Dashboard:
    """`families`: what the service declares, in the order in which it is shown."""
    where = f'service="{name}", instance=~"$instance"'
    own = [panel_of(family, where) for family in families]
    return Dashboard(
        f"millrace-{name}",
        title or name,
        [Row("Health", _health(where)), Row("Metrics of the service", own)],
        f"Every metric that {name} declares; made from its code.",
        instances_of=name,
    )


def _health(where: str) -> list[Panel]:
    return [
        Panel("Up", [(f"up{{{where}}}", "{{instance}}")], kind="stat", width=6, meaning="1: it answers Prometheus"),
        Panel("Ready", [(f"millrace_ready{{{where}}}", "{{instance}}")], kind="stat", width=6),
        Panel("Checks that fail", [(f"millrace_check_failed{{{where}}} == 1", "{{check}}")], kind="stat", width=6),
        Panel(
            "Up since",
            [(f"time() - process_start_time_seconds{{{where}}}", "{{instance}}")],
            unit="s",
            kind="stat",
            width=6,
        ),
        Panel(
            "CPU",
            [(f"rate(process_cpu_seconds_total{{{where}}}[1m])", "{{instance}}")],
            unit="percentunit",
            meaning="of one core",
        ),
        Panel("Memory", [(f"process_resident_memory_bytes{{{where}}}", "{{instance}}")], unit="bytes"),
        Panel("Open files", [(f"process_open_fds{{{where}}}", "{{instance}}")]),
    ]


def panel_of(family: Family, where: str) -> Panel:
    """The panel that suits a metric of this kind."""
    labels = [label for label in family.labels if label not in _MANY]
    by = f" by ({', '.join(labels)})" if labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    title = _title(family.name)
    if family.kind == "histogram":
        return _delays(family, labels, where, legend)
    if family.kind == "counter":
        ask = f"sum{by} (rate({family.exposed[0]}{{{where}}}[1m]))"
        unit = "Bps" if family.name.endswith("bytes") else "cps"
        return Panel(f"{title} /s", [(ask, legend)], unit, family.meaning)
    if family.name.endswith("_end_timestamp_seconds"):
        ask = f"min{by} ({family.name}{{{where}}}) - time()"
        return Panel(f"{title.removesuffix(' timestamp')} in", [(ask, legend)], "s", family.meaning)
    if family.name.endswith("_timestamp_seconds"):
        ask = f"time() - min{by} ({family.name}{{{where}}})"
        return Panel(f"since {title.removesuffix(' timestamp')}", [(ask, legend)], "s", family.meaning)
    unit = "bytes" if family.name.endswith("_bytes") else "s" if family.name.endswith("_seconds") else "short"
    return Panel(title, [(f"sum{by} ({family.name}{{{where}}})", legend)], unit, family.meaning)


def _delays(family: Family, labels: Sequence[str], where: str, legend: str) -> Panel:
    by = ", ".join(["le", *labels])
    rate = f"sum by ({by}) (rate({family.name}_bucket{{{where}}}[1m]))"
    asks = [(f"histogram_quantile({q}, {rate})", f"p{q * 100:g} {legend}".strip()) for q in (0.5, 0.95, 0.99)]
    return Panel(_title(family.name), asks, "s", family.meaning)


def _title(name: str) -> str:
    """`millrace_sink_lag_records` → `sink lag records`."""
    return name.removeprefix("millrace_").removesuffix("_seconds").replace("_", " ")
