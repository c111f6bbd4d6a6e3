"""A toy stage: counts words by key. `run` is a worker process's main, configured by the environment.

A data record's value is JSON, a list of words. For every record it writes the running count of each of its words to one
topic (ticks: the sum of all), and to a second, rare one only where a count reaches a multiple of five.

Logic version 2 writes twice the counts, and stores them by word in its meta, where version 1 has a list and an array.
"""

import os
import random
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from runtime.stage.contract import Frozen, Output, Record, State
from runtime.stage.settings import StageSettings
from runtime.stage.worker import main
from schemas.headers import number
from schemas.vocabulary import Kind


class Counts(State):
    """`counts` by word; `history`: int32, numbers of the words in the order in which they came, and `ballast`: int64,
    for states of any size. Each of the three could be made of the others: so a restore proves that they fit."""

    def __init__(self, stage: "Toy") -> None:
        self.stage, self.time_ms = stage, 0
        self.counts: dict[str, int] = {}
        self.history = array("i")
        self.ballast = np.arange(1, stage.ballast + 1, dtype=np.int64)

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
            if self.stage.poison in (word, "*"):
                raise RuntimeError("a poisoned word")
            self.counts[word] = self.counts.get(word, 0) + 1
            self._note(list(self.counts).index(word))
        return {word: self.counts[word] * self.stage.logic_version for word in words}

    def _note(self, number: int) -> None:
        self.history.append(number)
        if len(self.ballast):
            self.ballast[len(self.history) * 7919 % len(self.ballast)] += 1

    def freeze(self) -> Frozen:
        arrays = {
            "history": np.frombuffer(self.history, np.int32) if self.history else np.zeros(0, np.int32),
            "ballast": self.ballast,
        }
        if self.stage.logic_version > 1:
            return Frozen({"counts": list(self.counts.items()), "time_ms": self.time_ms}, arrays)
        arrays["counts"] = np.array(list(self.counts.values()), np.int64)
        return Frozen({"words": list(self.counts), "time_ms": self.time_ms}, arrays)

    def thaw(self, stored: Frozen, version: int) -> None:
        meta, history = stored.meta, stored.arrays["history"]
        counts = meta["counts"] if version > 1 else zip(meta["words"], stored.arrays["counts"].tolist(), strict=True)
        self.counts, self.time_ms = dict(counts), meta["time_ms"]
        assert np.bincount(history, minlength=len(self.counts)).tolist() == list(self.counts.values())
        for word in history.tolist():
            self._note(word)
        assert np.array_equal(self.ballast, stored.arrays["ballast"])

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
        self.ballast = int(environment.get("TOY_BALLAST", "0"))
        self.poison = environment.get("TOY_POISON", "")

    def owners(self, record: Record) -> Sequence[str]:
        found: list[str] = orjson.loads(record.value)
        return found

    def only(self, record: Record, kept: Any) -> Record:
        words = orjson.loads(record.value)
        some = [word for word, keep in zip(words, kept, strict=True) if keep]
        return replace(record, value=orjson.dumps(some), refused=len(words) - len(some))

    def create(self, partition: int) -> Counts:
        return Counts(self)

    def restore(self, partition: int, stored: Frozen, version: int) -> Counts:
        state = Counts(self)
        state.thaw(stored, version)
        return state


def run(argv: Sequence[str]) -> None:
    main(lambda _: Toy(), StageSettings, argv)
