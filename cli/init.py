"""`millrace init`: what must be there before the first service starts. Harmless when it is there already."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from cli.context import changes, data_option, settings
from cli.policy import publish
from control import decisions
from runtime.kafka import clients, rights, topics
from runtime.retry import RetryPolicy, retry
from runtime.settings import KafkaSettings, setting
from schemas.control import POLICY_KEY, settings_key
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from streams.access.policy import SHIPPED, check, decode, shipped
from streams.aggregate import windowing as aggregate
from streams.anomaly import detectors as anomaly
from streams.presence import rules as presence

COPIES: Final[dict[str, Callable[[bytes], object]]] = {
    POLICY_KEY: decode,
    settings_key("aggregate"): aggregate.decode,
    settings_key("anomaly"): anomaly.decode,
    settings_key("presence"): presence.decode,
}
"""What older releases published without a copy beside it."""
_PATIENCE: Final = RetryPolicy(first_s=0.5, longest_s=1.0, deadline_s=60.0)
"""For Kafka and ClickHouse, which may start beside it; what it waits for is logged to stderr."""


@dataclass(frozen=True)
class InitSettings(KafkaSettings, MigrationSettings):
    """How topics, tables and the first policy are made."""

    partitions: int = setting(
        4, doc="partitions of every telemetry topic; fixed for the platform's life", low=1, high=1_000
    )
    replication: int = setting(1, doc="copies of every topic: 1 on one machine, 3 in production", low=1, high=9)
    kafka_retention_days: int = setting(7, doc="how long Kafka keeps telemetry: how far back can be replayed", low=1)
    kafka_acls: bool = setting(False, doc="keep Kafka's access lists (needs an authorizer and certificates)")
    starting_policy: str = setting("default", doc="policy of a platform that has none yet", choices=SHIPPED)


@click.command()
@data_option
@changes
def init(data: Path) -> None:
    """Create topics and tables and publish the starting policy, if they are missing.

    Waits a minute for Kafka and ClickHouse. `millrace up` and docker-compose call it. Example: millrace init
    """
    found = settings(InitSettings, data, reachable=False)  # it waits for them
    plans = topics.plans(found.partitions, found.replication, found.kafka_retention_days * topics.DAY_MS)
    facts = retry(lambda: topics.ensure(found, plans, found.replication), "topics", _PATIENCE)
    click.echo("topics: " + ", ".join(f"{name} (epoch {fact.epoch})" for name, fact in facts.items()))
    if found.kafka_acls:
        made, removed = retry(lambda: rights.ensure(clients.admin(found)), "access lists", _PATIENCE)
        click.echo(f"access lists: {made} made, {removed} removed")
    applied = retry(lambda: migrate(found, restore=True), "tables", _PATIENCE)
    click.echo("migrations: " + (", ".join(applied) or "nothing to do"))
    published = retry(lambda: publish_starting_policy(found, found.starting_policy), "policy", _PATIENCE)
    retry(lambda: decisions.keep_copies(found, COPIES), "policy", _PATIENCE)
    click.echo(f"policy: {f'starting with {found.starting_policy}' if published else 'there is one'}")


def publish_starting_policy(found: KafkaSettings, name: str) -> bool:
    """Publish the shipped policy `name` unless there is a policy. Returns whether it did."""
    if decisions.in_force(found, POLICY_KEY, decode) is not None:
        return False
    publish(found, check(shipped(name), f"{name}.yaml"))
    return True
