"""Builds the MQTT bridge: settings in, parts in order of start out."""

import logging

from bridge.core.intake import Intake
from bridge.mqtt.link import Link
from bridge.mqtt.settings import MqttSettings
from bridge.mqtt.source import Source
from bridge.writer import Writer, producer
from runtime import lifecycle
from runtime.kafka.topics import partitions_of_raw
from runtime.probes import Probes
from runtime.tasks import in_thread


async def serve(settings: MqttSettings) -> None:
    """Run until asked to stop."""
    partitions = await in_thread(partitions_of_raw, settings)
    intake = Intake(partitions, settings.limits(partitions))
    writer = Writer(intake, producer(settings, settings.budget_bytes), settings)
    source = Source(settings, Link(writer, settings.gather_ms / 1000), writer)
    probes = Probes(settings.http_bind)
    probes.checks |= {"kafka": writer.wrong, "mqtt": source.wrong}
    logging.getLogger("gmqtt").setLevel(logging.WARNING)
    await lifecycle.run([writer, source], probes, grace_s=settings.drain_s + 10)
