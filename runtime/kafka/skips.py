"""Skips and resets as `platform.facts` holds them now (schemas/skips.py says what they mean)."""

import logging

from runtime.kafka.topics import newest_values
from runtime.settings import KafkaSettings
from schemas.skips import Skips, parse
from schemas.topics import FACTS

log = logging.getLogger(__name__)


def read_skips(settings: KafkaSettings) -> Skips:
    """Blocks for a moment: the topic is small. Records that cannot be read are logged and count for nothing.

    Raises RetryableError when Kafka does not answer.
    """
    found = parse((key, value) for key, (_, value) in newest_values(settings, FACTS).items())
    for key, error in found.broken.items():
        log.error("%s: %s: it is ignored", key, error)
    return found
