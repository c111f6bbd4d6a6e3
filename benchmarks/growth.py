"""What a message costs with 1,000 and with 100,000 devices: batching core and access, in one process, side by side."""

from collections.abc import Iterable
from statistics import median

from benchmarks.figures import Figure, cpu_s
from bridge.core.columns import Record as RawRecord
from bridge.core.intake import Intake, Limits
from bridge.core.rows import flags, row
from runtime.stage.contract import Record
from schemas import headers
from schemas.control import POLICY_KEY
from schemas.headers import Version
from schemas.vocabulary import Kind, Transport
from streams.access.core.stage import AccessStage
from streams.access.core.state import State
from streams.access.policy import check, shipped

FEW, MANY = 1_000, 100_000
MESSAGES = 100_000
ROWS = 1_000
RUNS = 5
RECEIVED_MS = 1_790_000_000_000


def figures() -> Iterable[Figure]:
    """growth_devices: cost a message at 100,000 devices over that at 1,000. The target is at most 1.15."""
    few, many = Pipeline(FEW), Pipeline(MANY)
    for pipeline in (few, many):
        pipeline.run()  # every device becomes known
    ratios, costs = [], []
    for _ in range(RUNS):
        cheap, dear = few.run(), many.run()
        ratios.append(dear / cheap)
        costs.append((cheap, dear))
    yield Figure("growth_devices", median(ratios), "ratio")
    yield Figure(
        "growth_100000_us", median(d for _, d in costs), "us/message", "1,000 devices", median(c for c, _ in costs)
    )


class Pipeline:
    """One bridge and one access partition that serve `devices` devices in turn."""

    def __init__(self, devices: int) -> None:
        self.devices, self.round, self.offset = devices, 0, 1
        self.topics = [f"d/device-{i:06d}/telemetry/climate".encode() for i in range(devices)]
        self.intake = Intake(1, Limits(group_rows=ROWS))
        self.state: State = AccessStage().create(0)
        policy = check(shipped("loopback"), "loopback").encode()
        found = headers.table(headers.raw_control(Version(0, 0), POLICY_KEY))
        self.state.apply(Record(0, 0, 0, 0, Kind.CONTROL, found, policy))

    def run(self) -> float:
        """CPU µs a message over MESSAGES messages."""
        begin = cpu_s()
        for start in range(0, MESSAGES, ROWS):
            for record in self._bridge(start):
                self._access(record)
        self.round += 1
        return (cpu_s() - begin) / MESSAGES * 1e6

    def _bridge(self, start: int) -> list[RawRecord]:
        turns = MESSAGES // self.devices
        mark = flags(Transport.MQTT, 1)
        for i in range(start, start + ROWS):
            turn, device = divmod(i, self.devices)
            payload = b'{"temperature":%d.5,"humidity":%d,"boot":1,"seq":%d}' % (
                i % 40,
                i % 90,
                self.round * turns + turn,
            )
            extend, name = self.intake.route(self.topics[device])
            extend(row(name, self.topics[device], payload, None, mark, RECEIVED_MS))
        self.intake.add(ROWS, 100 * ROWS)
        group, records = self.intake.close(0.0)
        group.pending = 0
        list(self.intake.acknowledged())
        return records

    def _access(self, record: RawRecord) -> None:
        found = headers.table(headers.raw_data(record.rows))
        self.state.apply(Record(0, self.offset, 0, self.offset, Kind.DATA, found, record.value))
        self.offset += 1
