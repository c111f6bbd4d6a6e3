"""What every process of bridge/ needs before it can start: telemetry.raw, as `millrace init` made it."""

import logging
import time
from typing import Final

from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients
from runtime.kafka.topics import facts
from runtime.settings import KafkaSettings
from schemas import topics
from schemas.control import TopicFacts

log = logging.getLogger(__name__)
_RETRY_S: Final = 1.0


def wait_for_topics(settings: KafkaSettings, *names: str) -> dict[str, TopicFacts]:
    """Identities of topics; waits, logging, while Kafka is away or `millrace init` has not run. Blocks."""
    while True:
        try:
            return facts(settings, *names)
        except RetryableError as error:
            log.warning("waiting: %s", error)
            time.sleep(_RETRY_S)


def partitions_of_raw(settings: KafkaSettings) -> int:
    """Number of partitions of telemetry.raw. Raises RefusedError when it is not the one it was made with. Blocks."""
    made = wait_for_topics(settings, topics.RAW)[topics.RAW].partitions
    found = len(clients.admin(settings).list_topics(topics.RAW, timeout=15).topics[topics.RAW].partitions)
    if found != made:
        raise RefusedError(
            f"{topics.RAW} has {found} partitions but was made with {made}: devices would change partition; restore it"
        )
    return made
