"""`millrace stage reset` on a real broker: where a stage starts, what it forgets, and that it writes nothing twice."""

import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Message, TopicPartition

from cli.main import millrace
from operations import stages
from runtime.errors import EXIT_REFUSED
from runtime.kafka import clients
from schemas import topics as names
from schemas.control import POLICY_KEY
from schemas.headers import Counts, Provenance, Version, table
from streams.access.policy import check, shipped
from tests.access.support import control, data, message
from tests.servers import KafkaServer
from tests.support.service import StageService, until

PARTITIONS = 2
POLICY = check(shipped("loopback"), "loopback.yaml").encode()


class Platform(StageService):
    """Access on two partitions, whose first record is the policy. `sent` messages of one device a partition so far."""

    sent = 0

    def feed(self, records: int, first: int | None = None) -> None:
        """So many records of one message, numbered on, or from `first` on."""
        number = self.sent if first is None else first
        for seq in range(number, number + records):
            for partition in range(PARTITIONS):
                row = message(f"dev-{partition}", '{"temperature":1}', boot="1", seq=str(seq))
                self.send(partition, data(0, [row]))
        self.flush()
        self.sent = max(self.sent, number + records)

    def answered(self) -> None:
        until(lambda: all(self._stored(p) for p in range(PARTITIONS)), 60, f"a snapshot\n{self.log.read_text()}")

    def _stored(self, partition: int) -> bool:
        found = next(stages.inspect(self.settings, self.stage, partition))
        return found.position == found.end

    def verdicts(self, partition: int, since: int) -> Counts:
        """The sum of what access answered to raw records from offset `since` on."""
        each = [Counts.parse(dict(m.headers() or ())) for src, m in self.outputs(partition) if src >= since]
        return Counts(*(sum(getattr(one, name) for one in each) for name in Counts.__slots__))

    def outputs(self, partition: int) -> list[tuple[int, Message]]:
        """(raw offset, record) of every record of telemetry.readings, repeats included."""
        return [(Provenance.parse(table(m.headers())).src, m) for m in self.read(names.READINGS, partition)]

    def lose(self, partition: int, before: int) -> None:
        """What retention does."""
        admin = clients.admin(self.settings)
        for future in admin.delete_records([TopicPartition(names.RAW, partition, before)]).values():
            future.result(10)

    def order(self, command: str) -> None:
        """Run a command as it stands in a log line."""
        environment = {"MILLRACE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap}
        done = CliRunner(env=environment).invoke(millrace, shlex.split(command)[1:], standalone_mode=False)
        assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"


@pytest.fixture
def platform(kafka_fresh: Callable[[], KafkaServer], tmp_path: Path) -> Iterator[Platform]:
    found = Platform(kafka_fresh(), tmp_path, "access", names.RAW, PARTITIONS)
    for partition in range(PARTITIONS):
        found.send(partition, control(0, POLICY_KEY, POLICY, Version(0, 5)))
    found.feed(10)
    found.start()
    found.answered()
    assert found.end(signal.SIGTERM) == 0
    yield found
    found.close()


def test_a_reset_from_the_oldest_record_forgets_the_state_once_and_writes_nothing_twice(platform: Platform) -> None:
    before = [platform.outputs(p) for p in range(PARTITIONS)]
    platform.lose(0, before=6)  # the policy and five messages: nobody can read them again
    platform.order("millrace stage reset access --partition 0 --from-oldest --reason 'state damaged'")
    platform.feed(3)
    platform.start()
    platform.answered()
    for partition in range(PARTITIONS):
        found = [src for src, _ in platform.outputs(partition)]
        assert found == list(range(14)), "one output for each raw record, whatever was applied again"
        assert [m.value() for _, m in platform.outputs(partition)[:11]] == [m.value() for _, m in before[partition]]
    assert platform.verdicts(0, since=11) == Counts(3, denied=3), "the policy was in the state, which is gone"
    assert platform.verdicts(1, since=11).accepted == 3, "the other partition keeps its state"

    assert platform.end(signal.SIGTERM) == 0
    platform.send(0, control(0, POLICY_KEY, POLICY, Version(0, 5)))
    platform.flush()
    platform.start()
    platform.feed(2)
    platform.feed(1, first=14)
    platform.answered()
    assert platform.end(signal.SIGTERM) == 0
    platform.start()
    platform.feed(2, first=13)
    platform.answered()
    assert platform.verdicts(0, since=15).duplicates == 3, "no later start forgets what came after the reset"


def test_a_reset_that_skips_what_is_lost_keeps_the_state_and_goes_on_at_the_oldest_record(platform: Platform) -> None:
    platform.feed(5)
    platform.lose(0, before=13)
    platform.start()
    assert platform.processes[-1].wait(60) == EXIT_REFUSED
    (command,) = set(re.findall(r"`(millrace stage reset [^`]+)`", platform.log.read_text()))
    assert "--partition 0 --skip-lost" in command
    platform.order(command)
    platform.start()
    platform.feed(1, first=9)
    platform.answered()
    assert [src for src, _ in platform.outputs(0)] == [*range(11), *range(13, 17)]
    assert [src for src, _ in platform.outputs(1)] == list(range(17))
    assert platform.verdicts(0, since=11) == Counts(4, accepted=3, duplicates=1, readings=3)
    assert platform.end(signal.SIGTERM) == 0
    platform.feed(2)
    platform.lose(0, before=18)
    platform.start()
    assert platform.processes[-1].wait(60) == EXIT_REFUSED, "it accepted one loss, not every loss"
