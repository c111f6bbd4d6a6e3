"""What a stage says of topics that are not the registered ones: each refusal has its commands."""

import pytest

from runtime.errors import RefusedError
from runtime.stage.identity import check_topics, gone
from schemas import topics as names
from schemas.control import TopicFacts
from streams.aggregate.core.stage import AggregateStage

STAGE = AggregateStage()
FACTS = {
    name: TopicFacts(f"id of {name}", 0, 4) for name in (names.RAW, names.READINGS, names.AGGREGATES, "state.aggregate")
}
LIVE = {name: (one.topic_id, one.partitions) for name, one in FACTS.items()}


def test_the_registered_topics_are_accepted() -> None:
    check_topics(STAGE, LIVE, FACTS)


@pytest.mark.parametrize(
    ("topic", "commands"),
    [
        (
            names.AGGREGATES,
            "`millrace stage reset aggregate --from-oldest --reason '...'`, then `millrace restart aggre",
        ),
        (
            names.READINGS,
            "`millrace stage reset access --from-oldest --reason '...'`, `millrace stage reset aggregate ",
        ),
        ("state.aggregate", "`millrace stage reset aggregate --from-oldest --reason '...'`, then"),
    ],
)
def test_a_deleted_topic_is_resolved_by_its_writer_and_this_stage(topic: str, commands: str) -> None:
    said = str(gone(STAGE, [topic]))
    assert said.startswith(f"topic {topic} is gone from Kafka")
    assert said.index("`millrace init`") < said.index(commands)


def test_a_recreated_topic_names_its_commands() -> None:
    live = LIVE | {names.AGGREGATES: ("another", 4)}
    with pytest.raises(RefusedError, match=r"re-created.*`millrace init`.*`millrace stage reset aggregate --from-olde"):
        check_topics(STAGE, live, FACTS)


@pytest.mark.parametrize(
    ("topic", "commands"),
    [
        (
            names.AGGREGATES,
            r"--delete --topic telemetry\.aggregates.*`millrace init`.*stage reset aggregate --from-old",
        ),
        (names.RAW, r"takes no partitions away.*`millrace restore FOLDER`"),
    ],
)
def test_a_topic_of_another_size_names_its_commands(topic: str, commands: str) -> None:
    with pytest.raises(RefusedError, match=rf"{topic} has 5 partitions, registered are 4.*{commands}"):
        check_topics(STAGE, LIVE | {topic: (FACTS[topic].topic_id, 5)}, FACTS)


def test_topics_registered_with_different_sizes_name_their_commands() -> None:
    facts = FACTS | {names.READINGS: TopicFacts("id of telemetry.readings", 0, 8)}
    live = LIVE | {names.READINGS: ("id of telemetry.readings", 8)}
    with pytest.raises(
        RefusedError, match=r"telemetry\.readings 8.*MILLRACE_PARTITIONS=4.*stage reset aggregate --from"
    ):
        check_topics(STAGE, live, facts)
