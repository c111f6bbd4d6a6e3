"""Settings of notify."""

from dataclasses import dataclass
from pathlib import Path

from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import ServiceSettings, setting


@dataclass(frozen=True, kw_only=True)
class NotifySettings(ClickHouseSettings, ServiceSettings):
    """Everything `python -m monitoring.notify` reads."""

    alertmanager_url: str = setting("http://127.0.0.1:9093", doc="Alertmanager's address")
    notify_state: Path = setting(doc="file in which sent incidents are stored; must be on a persistent volume")
    notify_every_s: float = setting(5.0, doc="seconds between polls of incidents", low=0.1, high=60)
    notify_hold_s: float = setting(
        300.0, doc="least time an alert stays active, though its incident closed; above Alertmanager's group_wait",
        low=1, high=86_400,
    )  # fmt: skip
    notify_least: str = setting("warning", doc="lowest severity that is sent", choices=("info", "warning", "critical"))
    notify_link: str = setting(
        "http://127.0.0.1:3000/d/millrace-anomalies?var-device={device}",
        doc="link of an incident; {incident}, {device}, {metric} are replaced",
    )
