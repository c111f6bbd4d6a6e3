"""`millrace monitoring`: what Grafana and Alertmanager read, made from the code and from settings."""

from pathlib import Path

import click
import orjson
import yaml

from cli.declared import services
from monitoring.dashboards.boards import dashboards
from monitoring.dashboards.model import rendered
from monitoring.receivers import ReceiverSettings, configuration
from runtime.settings import load


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--alertmanager",
    "base",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Alertmanager's configuration without receivers: deploy/alertmanager/alertmanager.yml.",
)
def monitoring(folder: Path, base: Path | None) -> None:
    """Write dashboards for Grafana into FOLDER/dashboards and, from --alertmanager FILE and the settings
    MILLRACE_ALERT_…, FOLDER/alertmanager/alertmanager.yml. docker-compose runs it before they start.

    Example: millrace monitoring build/monitoring --alertmanager deploy/alertmanager/alertmanager.yml
    """
    boards = folder / "dashboards"
    boards.mkdir(parents=True, exist_ok=True)
    found = {
        f"{board.uid}.json": orjson.dumps(rendered(board), option=orjson.OPT_INDENT_2)
        for board in dashboards(services())
    }
    for left in {file.name for file in boards.glob("millrace-*.json")} - set(found):
        (boards / left).unlink()
    for name, text in found.items():
        (boards / name).write_bytes(text)
    click.echo(f"{len(found)} dashboards in {boards}")
    if base is not None:
        file = folder / "alertmanager" / "alertmanager.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(_alertmanager(base))
        click.echo(file)


def _alertmanager(base: Path) -> str:
    return yaml.safe_dump(configuration(yaml.safe_load(base.read_text()), load(ReceiverSettings)), sort_keys=False)
