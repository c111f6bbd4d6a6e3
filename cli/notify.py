"""`millrace notify`: incidents of the platform on this machine reach an Alertmanager."""

import asyncio
from pathlib import Path

import click

from cli.context import data_option, environment
from cli.target import CLICKHOUSE
from monitoring.notify.app import serve
from monitoring.notify.settings import NotifySettings
from runtime import logs
from runtime.settings import load


@click.command()
@click.option("--alertmanager", "url", help="Its address (default: $MILLRACE_ALERTMANAGER_URL or 127.0.0.1:9093).")
@data_option
def notify(url: str | None, data: Path) -> None:
    """Tell Alertmanager of incidents of devices, until Ctrl-C. docker-compose runs it as a service of its own.

    What was told is remembered in DATA/run/told.json. Example: millrace notify --alertmanager http://127.0.0.1:9093
    """
    found = {"MILLRACE_NOTIFY_STATE": str(data / "run" / "told.json")} | environment(data)
    if url is not None:
        found["MILLRACE_ALERTMANAGER_URL"] = url
    logs.configure("notify", form="human")
    asyncio.run(serve(load(NotifySettings, found, required={CLICKHOUSE})))
