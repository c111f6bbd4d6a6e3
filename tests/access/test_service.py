"""The running service against a real Kafka: policies by the command, kill -9, and every byte as the core says."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Message

from cli.policy import policy as policy_command
from runtime.kafka import topics
from runtime.stage.contract import Record
from schemas import topics as names
from schemas.control import POLICY_KEY
from schemas.headers import kind_of
from streams.access.core.stage import AccessStage
from streams.access.policy import check, decode, shipped
from tests.access.scenario import Scenario
from tests.access.support import control, data, message, tick
from tests.servers import KafkaServer
from tests.support.service import StageService, until, without_provenance

PARTITIONS = 2


@pytest.fixture(scope="module")
def platform(
    kafka_fresh: Callable[[], KafkaServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StageService]:
    found = StageService(kafka_fresh(), tmp_path_factory.mktemp("access"), "access", names.RAW, PARTITIONS)
    yield found
    found.close()


def as_record(found: Message, partition: int) -> Record:
    headers = dict(found.headers() or ())
    offset = found.offset() or 0
    return Record(partition, offset, 0, offset, kind_of(headers), headers, found.value() or b"")


def test_metrics_name_verdicts_and_rules(platform: StageService) -> None:
    platform.send(0, control(0, "policy", check(shipped("loopback"), "t").encode()))
    rows = [message("s-1", '{"a":1}', boot="1", seq="0")] * 2 + [message("s-1", "{")]
    rows.append(message("s-1", '{"a":1}') | {"topic": "d/other/telemetry/x"})
    rows += [message("s-1", "", transport=2) | {"topic": topic} for topic in ("p/s-1/connected", "p/s-2/connected")]
    platform.send(0, data(1, rows))
    platform.send(0, tick(2, 1000))
    platform.flush()
    platform.start()
    until(lambda: platform.high(names.READINGS, 0) == 3, 30, "answers")
    for verdict in ("accepted", "denied", "dead_letter", "duplicate"):
        assert platform.metric(f'millrace_access_messages_total{{verdict="{verdict}"}}') == 1
    for rule in ("json", "topic"):
        assert platform.metric(f'millrace_access_refused_total{{rule="{rule}"}}') == 1
    assert platform.metric("millrace_access_readings_total") == 1
    assert platform.metric("millrace_access_events_total") == platform.metric("millrace_access_untold_total") == 1
    assert platform.metric("millrace_access_delay_seconds_count") == 1
    assert platform.end(signal.SIGTERM) == 0, platform.log.read_text()


def test_each_raw_record_has_one_answer_the_cores_own_through_kills(platform: StageService) -> None:
    scenarios = [Scenario(seed) for seed in range(PARTITIONS)]

    def send(count: int) -> None:
        for _ in range(count):
            for partition, scenario in enumerate(scenarios):
                platform.send(partition, scenario.record()[0])
        platform.flush()

    def answered(count: int) -> bool:
        return all(platform.high(names.READINGS, p) >= count for p in range(PARTITIONS))

    def behind() -> int:
        """Partitions of which some record has no answer yet."""
        return sum(len(answers_of(platform, p)) < platform.high(names.RAW, p) for p in range(PARTITIONS))

    send(40)
    platform.start()
    until(lambda: answered(20), 30, "answers before the kill")
    platform.end(signal.SIGKILL)
    send(40)
    platform.start()
    send(40)
    until(lambda: platform.metric("millrace_access_messages_total") > 0, 30, "work after the kill")
    assert platform.end(signal.SIGTERM) == 0, platform.log.read_text()
    send(20)
    platform.start()
    until(lambda: not behind(), 60, "all answers")
    for partition in range(PARTITIONS):
        state = AccessStage().create(partition)
        answers = answers_of(platform, partition)
        raws = list(platform.read(names.RAW, partition))
        assert [src for src, _, _ in answers] == [m.offset() for m in raws] == list(range(len(raws)))
        for raw, (_, value, headers) in zip(raws, answers, strict=True):
            (expected,) = state.apply(as_record(raw, partition))
            assert value == expected.value
            assert dict(headers) == dict(expected.headers)


def answers_of(platform: StageService, partition: int) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    """(src, value, headers without provenance) as a reader takes them."""
    written = platform.written(names.READINGS, partition)
    return [(src, one.value() or b"", without_provenance(one)) for src, one in written]


def test_a_policy_is_checked_published_and_shown_by_the_command(
    platform: StageService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = platform.settings
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)
    monkeypatch.setenv("MILLRACE_WAIT_S", "0")  # no relay runs here
    run = CliRunner().invoke
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(shipped("loopback"))
    bad.write_text("roles:\n  a: {publish: [x], rate: fast}\nunknown: b\n")
    assert run(policy_command, ["check", str(good)]).exit_code == 0
    applied = run(policy_command, ["apply", str(good)])
    assert applied.exit_code == 0, applied.output
    offset, value = topics.read_control(settings)[POLICY_KEY]
    assert f"policy 0/{offset} published" in applied.output
    assert decode(value) == check(shipped("loopback"), "loopback")

    for verb in (["check", str(bad)], ["apply", str(bad)]):
        refused = run(policy_command, verb)
        assert refused.exit_code == 1
        for line in (f"{bad}:2: role a: publish", f"{bad}:2: role a: rate", f"{bad}:3: unknown: 'b'", "3 mistakes"):
            assert line in refused.output
    assert topics.read_control(settings)[POLICY_KEY] == (offset, value), "a bad one changes nothing"

    shown = run(policy_command, ["show"])
    assert f"# policy 0/{offset}" in shown.output
    assert check(shown.output, "shown") == decode(value), "what is shown can be applied"
