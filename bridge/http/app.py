"""Builds bridge-http: settings in, parts in order of start out."""

from typing import Final

from bridge.core.intake import Intake
from bridge.http.adapters.endpoint import Endpoint
from bridge.http.adapters.registry import Follower
from bridge.http.adapters.server import Server
from bridge.http.core.credentials import Credentials
from bridge.http.openapi import pages
from bridge.http.settings import HttpSettings
from bridge.writer import Writer, producer
from runtime import lifecycle
from runtime.errors import EXIT_SETTINGS, FatalError
from runtime.kafka.topics import partitions_of_raw
from runtime.probes import Probes
from runtime.tasks import in_thread

_GRACE_S: Final = 10.0
"""Beyond the drain: closing sockets and threads."""


class _TlsError(FatalError):
    exit_code = EXIT_SETTINGS


async def serve(settings: HttpSettings) -> None:
    """Run until asked to stop."""
    try:
        tls = settings.tls_context()
    except OSError as error:
        lifecycle.die(_TlsError(f"MILLRACE_TLS_CERT_FILE, MILLRACE_TLS_KEY_FILE: {error}"), "settings")
    partitions = await in_thread(partitions_of_raw, settings)
    writer = Writer(
        Intake(partitions, settings.limits(partitions)), producer(settings, settings.budget_bytes), settings
    )
    credentials = Credentials()
    registry = Follower(settings, credentials)
    server = Server(settings, Endpoint(settings, writer, credentials, pages(settings), registry.is_current), tls)
    probes = Probes(settings.http_bind)
    probes.checks |= {"kafka": writer.wrong, "registry": registry.wrong}
    await lifecycle.run([writer, registry, server], probes, grace_s=2 * settings.drain_s + _GRACE_S)
