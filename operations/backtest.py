"""Backtest: what settings of detectors would have raised over readings that ClickHouse holds, and what they cost."""

import time
from collections.abc import Iterable

from operations import history
from operations.history import Wanted
from operations.progress import Report, Step, silent
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import MillraceError
from schemas.control import Device
from streams.anomaly.backtest import Backtest, Run
from streams.anomaly.detectors import Detectors

__all__ = ["Run", "Wanted", "backtest"]


def backtest(
    clickhouse: ClickHouseSettings,
    detectors: Detectors,
    devices: Iterable[Device],
    wanted: Wanted,
    report: Report = silent,
) -> Run:
    """Run the stage's own code over the readings in order of their time, as if each had come when it was measured, with
    the registry `devices` and a tick a minute. Nothing is written.

    `report` is called for each chunk. Raises MillraceError where ClickHouse holds no such readings.
    """
    test = Backtest(detectors, devices)
    with ClickHouse(clickhouse) as db:
        for from_ms, to_ms in history.chunks(db, wanted):
            for end_ms, partition, batch in history.minutes(history.read(db, wanted.between(from_ms, to_ms))):
                test.take(end_ms, partition, batch)
            report(Step("judged", test.run.readings, "readings"))
        run = test.end(min(history.newest_ms(db, wanted), int(time.time() * 1000)))
    if not run.readings:
        raise MillraceError("ClickHouse holds no such readings: check --since, --until, --device and --metric")
    return run
