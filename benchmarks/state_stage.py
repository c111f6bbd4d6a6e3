"""A stage of a large state, for state.py: a quarter of a million series a partition, 476 bytes each.

Its arrays are like those of stages that keep windows, sketches and detectors; each record changes a thousand series
anywhere. It writes nothing: the benchmark is of snapshots and restores. `python -m benchmarks.state_stage` is a worker.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from runtime.columns.types import Int64
from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.settings import StageSettings
from runtime.stage.worker import main
from schemas.topics import RAW
from schemas.vocabulary import Kind

SERIES: Final = int(os.environ.get("SERIES", "250000"))
"""Of one partition."""
ROWS: Final = 1_000


class Series:
    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = dict(arrays)

    def apply(self, record: Record) -> Sequence[Output]:
        if record.kind is Kind.DATA:
            self._fold(np.frombuffer(record.value, np.int64) % SERIES)
        return ()

    def _fold(self, rows: Int64) -> None:
        values = rows % 997 / 10
        arrays = self.arrays
        arrays["seen"][rows] += 1
        arrays["sums"][rows] += values[:, None]
        arrays["sketch"][rows, rows % 64] += 1
        arrays["signals"][rows] = arrays["signals"][rows] * 0.99 + values[:, None] * 0.01
        arrays["hours"][rows, rows % 24] = values

    def freeze(self) -> Frozen:
        return Frozen({}, self.arrays)

    def sizes(self) -> Mapping[str, int]:
        return {"bytes": sum(array.nbytes for array in self.arrays.values()), "series": SERIES}


class Stage:
    name, logic_version, reads, source, outputs = "bench", 1, (), RAW, ()

    def create(self, partition: int) -> Series:
        dice = np.random.default_rng(partition)
        return Series(
            {
                "names": dice.integers(0, 1 << 62, (SERIES, 3)),
                "seen": np.zeros(SERIES, np.int32),
                "sums": dice.normal(20, 5, (SERIES, 8)),
                "sketch": dice.poisson(0.3, (SERIES, 64)).astype(np.uint16),
                "signals": dice.normal(0, 1, (SERIES, 20)),
                "hours": dice.normal(20, 5, (SERIES, 24)).astype(np.float32),
            }
        )

    def restore(self, partition: int, stored: Frozen, version: int) -> Series:
        return Series(stored.arrays)


if __name__ == "__main__":
    main(lambda _: Stage(), StageSettings)
