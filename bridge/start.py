"""What every process of bridge/ needs before it can start: telemetry.raw, as `millrace init` made it."""

from runtime.errors import RefusedError
from runtime.kafka import clients
from runtime.kafka.topics import facts
from runtime.retry import retry
from runtime.settings import KafkaSettings
from schemas import topics
from schemas.control import TopicFacts


def wait_for_topics(settings: KafkaSettings, *names: str) -> dict[str, TopicFacts]:
    """Identities of topics; waits, logging, while Kafka is away or `millrace init` has not run. Blocks."""
    return retry(lambda: facts(settings, *names), "topic facts")


def partitions_of_raw(settings: KafkaSettings) -> int:
    """Number of partitions of telemetry.raw. Raises RefusedError when it is not the one it was made with. Blocks."""
    made = wait_for_topics(settings, topics.RAW)[topics.RAW].partitions
    found = len(clients.admin(settings).list_topics(topics.RAW, timeout=15).topics[topics.RAW].partitions)
    if found != made:
        raise RefusedError(
            f"{topics.RAW} has {found} partitions but was made with {made}: devices would change partition; restore it"
        )
    return made
