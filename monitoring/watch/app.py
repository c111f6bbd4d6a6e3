"""Builds the watch: settings in, looks out."""

from functools import partial

from monitoring.watch import certificates, disks
from monitoring.watch.kafka import Kafka
from monitoring.watch.look import Look, Watcher
from monitoring.watch.mosquitto import Mosquitto
from monitoring.watch.settings import WatchSettings
from monitoring.watch.tables import Tables
from runtime import lifecycle
from runtime.probes import Probes


def looks(settings: WatchSettings) -> list[Look]:
    """What is looked at, each with its pace."""
    tables = Tables(settings)
    found = [
        Look("kafka", settings.watch_every_s, Kafka(settings).look),
        Look("clickhouse", settings.watch_every_s, tables.look_at_server),
        Look("mosquitto", settings.watch_every_s, Mosquitto(settings).look),
        Look("ledger", settings.watch_ledger_every_s, tables.look_at_ledger),
        Look("fleet", settings.watch_ledger_every_s, tables.look_at_fleet),
    ]
    if settings.watch_disks:
        found.append(Look("disks", settings.watch_every_s, partial(disks.look, settings.watch_disks)))
    if settings.watch_tls or settings.watch_certificates:
        look = partial(certificates.look, settings.watch_tls, settings.watch_certificates)
        found.append(Look("certificates", settings.watch_certificates_every_s, look))
    return found


async def serve(settings: WatchSettings) -> None:
    """Run until SIGTERM."""
    await lifecycle.run([Watcher(looks(settings))], Probes(settings.http_bind))
