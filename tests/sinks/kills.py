"""A flow, and kills of the sink in it."""

import random
import time

from tests.sinks.conftest import Stand


def kills_and_flow(stand: Stand, kills: int, records: int, seed: int) -> None:
    rng = random.Random(seed)
    sink = stand.sink()
    for i in range(kills):
        for chain in stand.chains:
            chain.flow(records)
        stand.producer.flush()
        time.sleep(rng.uniform(0.1, 1.5))  # where in its work the kill finds it is the point
        if i % 3 == 2:
            stand.clickhouse.kill()
            stand.clickhouse.start()
        else:
            sink.kill()
            sink.end()
            sink = stand.sink()
    stand.check()
