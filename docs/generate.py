"""Writes settings, metrics, rights and columns of docs/ from the code: `make docs`. A test says when they are old."""

import importlib
import re
from pathlib import Path
from typing import Any

from cli.declared import families
from identity.clickhouse_users import USERS
from runtime.kafka.rights import RIGHTS, SUPER, Rights, principal
from runtime.settings import describe
from sinks.files import migrations

HERE = Path(__file__).parent
SETTINGS = {
    "bridge": ("bridge.mqtt.settings", "MqttSettings"),
    "bridge-http": ("bridge.http.settings", "HttpSettings"),
    "relay": ("control.relay.settings", "RelaySettings"),
    "access": ("streams.access.settings", "Settings"),
    "aggregate": ("streams.aggregate.settings", "Settings"),
    "anomaly": ("streams.anomaly.settings", "Settings"),
    "presence": ("streams.presence.settings", "Settings"),
    "sink": ("sinks.settings", "SinkSettings"),
    "watch": ("monitoring.watch.settings", "WatchSettings"),
    "notify": ("monitoring.notify.settings", "NotifySettings"),
    "monitoring": ("monitoring.receivers", "ReceiverSettings"),
}
METRICS = (
    "bridge.metrics",
    "bridge.mqtt.metrics",
    "bridge.http.metrics",
    "control.relay.metrics",
    "streams.access.metrics",
    "streams.aggregate.metrics",
    "streams.anomaly.metrics",
    "streams.presence.metrics",
    "runtime.stage.metrics",
    "sinks.metrics",
    "monitoring.watch.metrics",
    "monitoring.notify.metrics",
    "runtime.certificates",
    "runtime.probes",
)
_SUFFIX = {"counter": "_total"}


def _class(service: str) -> Any:
    module, name = SETTINGS[service]
    return getattr(importlib.import_module(module), name)


def settings_page() -> str:
    """Every setting of every service."""
    lines = [
        "# Settings",
        "",
        "From the environment, or from the TOML file that `MILLRACE_SETTINGS_FILE` names (without the",
    ]
    lines += [
        "prefix, in lower case). A service refuses to start with every bad value listed. Made by `make docs`.",
        "",
    ]
    for service in SETTINGS:
        lines += [f"## {service}", "", "| name | default | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | `{default}` | {meaning} |" for name, default, meaning in describe(_class(service))]
        lines.append("")
    return "\n".join(lines)


def metrics_page() -> str:
    """Every metric of Millrace's own; the client library's process metrics are there beside them."""
    found = {family.name: family for module in METRICS for family in families(module)}
    lines = [
        "# Metrics",
        "",
        "`/metrics` of each service, in Prometheus' form; `/health/live` and `/health/ready` beside it.",
    ]
    lines += ["Made by `make docs`.", "", "| name | kind | meaning |", "|---|---|---|"]
    for name in sorted(found):
        metric = found[name]
        lines.append(f"| `{name}{_SUFFIX.get(metric.kind, '')}` | {metric.kind} | {metric.meaning} |")
    return "\n".join([*lines, ""])


def _groups(rights: Rights) -> list[str]:
    own = [f"{rights.own_groups}*"] if rights.own_groups else []
    asks = [f"{rights.watches_prefix}*"] if rights.watches_prefix else []
    return [*rights.groups, *own, *asks, *(f"transactions of {name}" for name in rights.transactions)]


def rights_page() -> str:
    """Who may do what in Kafka and in ClickHouse."""
    lines = [
        "# Rights",
        "",
        "What each service of docker-compose.yml may do; everything else is refused. Made by `make docs`; proved by",
        "`pytest tests/security`, against a real Kafka and ClickHouse's own access control.",
        "",
        "## Kafka",
        "",
        "A service is the CN of its certificate: `millrace.{service}`. Reading or writing includes asking;",
        "the watch asks about all topics and groups and reads none. A name that ends in * is a prefix.",
        "",
        "| service | reads | writes | groups |",
        "|---|---|---|---|",
    ]
    for service, rights in RIGHTS.items():
        cells = (", ".join(f"`{name}`" for name in names) for names in (rights.reads, rights.writes, _groups(rights)))
        lines.append(f"| {service} | {' | '.join(cells)} |")
    everything = " and ".join(f"`{principal(name)}`" for name in SUPER)
    lines += ["", f"{everything} may do everything: the brokers themselves, and `millrace init`, which ends.", ""]
    lines += ["## ClickHouse", "", "| user | used by | may | limits of a query |", "|---|---|---|---|"]
    for user in USERS:
        grants = "; ".join(f"`{grant.removeprefix('GRANT ')}`" for grant in user.grants)
        limits = ", ".join(f"{name} {value:,}" for name, value in user.settings) or "none"
        lines.append(f"| {user.name} | {user.room} | {grants} | {limits} |")
    return "\n".join([*lines, ""])


_TEXT = r"'((?:[^']|'')*)'"
_TABLE = re.compile(rf"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)\n(.*?)COMMENT {_TEXT};", re.DOTALL)
_COLUMN = re.compile(rf"^    (\w+) (.+?)(?: DEFAULT .+?)? COMMENT {_TEXT}", re.MULTILINE)
_ADDED = re.compile(rf"ALTER TABLE (\w+) ADD COLUMN IF NOT EXISTS (\w+) (\w+).*? COMMENT {_TEXT}")


def columns_page() -> str:
    """Every column of every table, as the migrations make them."""
    sql = "\n".join(migration.sql for migration in migrations())
    added = [(table, column) for table, *column in _ADDED.findall(sql)]
    lines = ["# Columns", "", "Every column of every table; what to ask of them is in [tables.md](tables.md)."]
    lines += ["Made by `make docs`."]
    for name, body, engine, meaning in _TABLE.findall(sql):
        order = re.search(r"ORDER BY \(?(.+?)\)?\n", engine)
        lines += ["", f"## {name}", f"{meaning}. Sorted by `{order[1] if order else ''}`.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        columns = [*_COLUMN.findall(body), *(column for table, column in added if table == name)]
        lines += [f"| `{column}` | {kind} | {said} |" for column, kind, said in columns]
    return "\n".join([*lines, ""]).replace("''", "'")


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "rights.md": rights_page,
    "columns.md": columns_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page())
