"""`millrace notify`: incidents of the platform on this machine reach an Alertmanager."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from cli.context import data_option, settings
from monitoring.notify.app import serve
from monitoring.notify.settings import NotifySettings
from runtime import logs


@click.command()
@click.option("--alertmanager", "url", help="Its address (default: $MILLRACE_ALERTMANAGER_URL or 127.0.0.1:9093).")
@data_option
def notify(url: str | None, data: Path) -> None:
    """Send incidents of devices to Alertmanager, until Ctrl-C. docker-compose runs it as a service of its own.

    What was sent is stored in DATA/run/told.json. Example: millrace notify --alertmanager http://127.0.0.1:9093
    """
    told = {"MILLRACE_NOTIFY_STATE": str(data / "run" / "told.json")}
    found = settings(NotifySettings, data, reachable=False, defaults=told)  # it waits for ClickHouse
    if url is not None:
        found = replace(found, alertmanager_url=url)
    logs.configure("notify", form="human")
    asyncio.run(serve(found))
