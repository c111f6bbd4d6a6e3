"""A toy stage: counts words by key. `run` is a worker process's main, told by the environment.

A data record's value is JSON, a list of words. For every record it writes the running count of each of its words to one
topic (ticks: the sum of all), and to a second, rare one only where a count reaches a multiple of five.
"""

import os
import random
import time
from collections.abc import Mapping, Sequence

import orjson

from runtime.stage.contract import Frozen, Output, Record, State
from runtime.stage.settings import StageSettings
from runtime.stage.worker import main
from schemas.headers import number
from schemas.vocabulary import Kind


class Counts(State):
    def __init__(self, stage: "Toy", counts: dict[str, int], time_ms: int) -> None:
        self.stage, self.counts, self.time_ms = stage, counts, time_ms

    def apply(self, record: Record) -> Sequence[Output]:
        if self.stage.slow_s:
            time.sleep(self.stage.slow_s)
        headers = [("kind", record.kind.encode())]
        if record.kind is Kind.TICK:
            self.time_ms = max(self.time_ms, number(record.headers, "time"))
            return [
                Output(self.stage.output, b"%d" % sum(self.counts.values()), [*headers, ("time", b"%d" % self.time_ms)])
            ]
        now = self._count(orjson.loads(record.value))
        if "huge" in now:
            return [Output(self.stage.output, random.Random(1).randbytes(20 << 20), headers)]  # does not compress
        outputs = [Output(self.stage.output, orjson.dumps(now), headers)]
        fives = [word for word, count in now.items() if count % 5 == 0]
        return [*outputs, Output(self.stage.rare, orjson.dumps(fives), headers)] if fives else outputs

    def _count(self, words: list[str]) -> dict[str, int]:
        for word in words:
            if word == self.stage.poison:
                raise RuntimeError("a poisoned word")
            self.counts[word] = self.counts.get(word, 0) + 1
        return {word: self.counts[word] * self.stage.logic_version for word in words}

    def freeze(self) -> Frozen:
        return Frozen([self.counts, self.time_ms], {})

    def sizes(self) -> Mapping[str, int]:
        return {"bytes": 100 * len(self.counts), "words": len(self.counts)}


class Toy:
    """Topics, version and misbehaviour from TOY_… of the environment."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.name = environment["TOY_NAME"]
        self.source = environment.get("TOY_SOURCE", "telemetry.raw")
        self.output, self.rare = f"{self.name}.out", f"{self.name}.rare"
        self.outputs = (self.output, self.rare)
        self.logic_version = int(environment.get("TOY_VERSION", "1"))
        self.reads = tuple(range(1, self.logic_version))
        self.slow_s = float(environment.get("TOY_SLOW_S", "0"))
        self.poison = environment.get("TOY_POISON", "")

    def create(self, partition: int) -> Counts:
        return Counts(self, {}, 0)

    def restore(self, partition: int, stored: Frozen, version: int) -> Counts:
        return Counts(self, *stored.meta)


def run(argv: Sequence[str]) -> None:
    main(lambda _: Toy(), StageSettings, argv)
