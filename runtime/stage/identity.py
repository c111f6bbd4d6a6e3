"""Are the topics of a stage the registered ones, and of the registered size? What is not has its commands here."""

from collections.abc import Mapping

from confluent_kafka.admin import AdminClient

from runtime.errors import RefusedError
from runtime.kafka.topics import MissingTopicError, identities
from runtime.stage.admission import started_over
from runtime.stage.contract import Stage
from schemas import topics as names
from schemas.control import TopicFacts


def same_topics(admin: AdminClient, stage: Stage, facts: Mapping[str, TopicFacts]) -> None:
    """Raise RefusedError where a topic of a stage is gone, or not as `platform.facts` knows it (`facts`), and
    RetryableError while Kafka does not answer. Blocks."""
    try:
        live = identities(admin, list(facts))
    except MissingTopicError as error:
        raise gone(stage, error.topics) from None
    check_topics(stage, live, facts)


def gone(stage: Stage, missing: list[str]) -> RefusedError:
    """The refusal to go on without topics that were deleted."""
    them = f"topic {missing[0]} is" if len(missing) == 1 else f"topics {', '.join(missing)} are"
    return RefusedError(
        f"{them} gone from Kafka: what Kafka still holds can be written again. Run `millrace init`, which creates what"
        f" is missing, then {started_over(*_concerned(stage, missing))}"
    )


def _concerned(stage: Stage, missing: list[str]) -> list[str]:
    """The stages that begin again when topics of this one were deleted: who writes them, and this one."""
    writers = [name for name, outputs in names.STAGES.items() if set(outputs) & set(missing)]
    return list(dict.fromkeys([*writers, stage.name]))


def check_topics(stage: Stage, live: Mapping[str, tuple[str, int]], facts: Mapping[str, TopicFacts]) -> None:
    """Raise RefusedError where a topic is not the one, or not of the size, that was registered. `live`: (topic id,
    number of partitions) by topic, as Kafka has them."""
    sizes = {found.partitions for name, found in facts.items() if name != names.CONTROL}
    for name, (topic_id, partitions) in live.items():
        if topic_id != facts[name].topic_id:
            raise RefusedError(
                f"topic {name} has id {topic_id}, but it was registered as {facts[name].topic_id}: it was re-created"
                " since. Restore the old topic, or run `millrace init` to register it, then"
                f" {started_over(*_concerned(stage, [name]))}"
            )
        if partitions != facts[name].partitions:
            raise RefusedError(
                f"topic {name} has {partitions} partitions, registered are {facts[name].partitions}: the number is"
                f" fixed for the life of a topic, or devices would change partition. {_resized(stage, name)}"
            )
    if len(sizes) > 1:
        counts = ", ".join(f"{name} {found.partitions}" for name, found in sorted(facts.items()))
        raise RefusedError(
            f"the topics of {stage.name} are registered with different numbers of partitions ({counts}): delete those"
            f" that differ from {names.RAW} (`kafka-topics.sh --delete --topic NAME`), run `millrace init` with"
            f" MILLRACE_PARTITIONS={facts[names.RAW].partitions}, then {started_over(stage.name)}"
        )


def _resized(stage: Stage, topic: str) -> str:
    if topic == names.RAW:
        return (
            "Kafka takes no partitions away: bring a backup into a new Kafka with `millrace restore FOLDER`"
            " (docs/operations/backup.md)"
        )
    return (
        f"Delete it (`kafka-topics.sh --bootstrap-server SERVER --delete --topic {topic}`), run `millrace init`, which"
        f" creates it with the registered number, then {started_over(*_concerned(stage, [topic]))}"
    )
