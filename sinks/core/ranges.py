"""Where a range of a partition ends: a pure function of the log and of the rule the range began with.

So a sink that restarts, or another that takes over, or a zombie, cuts the same ranges and gives their inserts the same
tokens, and ClickHouse drops what it already has. The rule of the next range travels in the Kafka commit.
"""

from dataclasses import dataclass, replace
from typing import Final

from schemas.errors import ContractError
from schemas.vocabulary import Kind

PACE_MS: Final = 500
"""The step from which a rule that ends ranges at once becomes slower."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A range ends after the record with which it has `rows` rows or `bytes` bytes, or spans `step_ms` of Kafka's
    append time; at a tick already when it spans `tick_ms`; while it contains no rows, when it spans `idle_ms`.
    """

    rows: int
    bytes: int
    step_ms: int
    idle_ms: int
    tick_ms: int = 0

    def encode(self) -> str:
        return f"{self.rows}/{self.bytes}/{self.step_ms}/{self.idle_ms}/{self.tick_ms}"

    @property
    def pace_ms(self) -> int:
        return self.step_ms or PACE_MS

    def slower(self, times: int) -> "Rule":
        """The same with longer steps: fewer, larger inserts."""
        return replace(self, step_ms=self.pace_ms * times, tick_ms=self.pace_ms * times // 2)

    def patient(self, times: int) -> "Rule":
        """The same, but what tells nothing waits longer."""
        return replace(self, idle_ms=self.idle_ms * times)

    def at_once(self) -> "Rule":
        """The same, but a range ends with the record that has something to tell."""
        return replace(self, step_ms=0, tick_ms=0)

    @classmethod
    def parse(cls, text: str) -> "Rule":
        try:
            rows, size, step_ms, idle_ms, tick_ms = map(int, text.split("/"))
        except ValueError:
            raise ContractError(f"range rule {text!r}: expected rows/bytes/step_ms/idle_ms/tick_ms") from None
        return cls(rows, size, step_ms, idle_ms, tick_ms)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much an open range holds. `since_ms` is the append time of its first record; `busy`: there is something to
    tell."""

    records: int = 0
    rows: int = 0
    bytes: int = 0
    since_ms: int = 0
    until_ms: int = 0
    busy: bool = False

    def add(self, busy: bool, rows: int, size: int, appended_ms: int) -> "Extent":
        if not self.records:
            self = replace(self, since_ms=appended_ms)
        return Extent(
            self.records + 1,
            self.rows + rows,
            self.bytes + size,
            self.since_ms,
            appended_ms,
            self.busy or busy,
        )


def ends(rule: Rule, extent: Extent, kind: Kind) -> bool:
    """Whether the range ends after its newest record, which is of `kind`."""
    span_ms = extent.until_ms - extent.since_ms
    if extent.rows >= rule.rows or extent.bytes >= rule.bytes:
        return True
    if not extent.busy:
        return span_ms >= rule.idle_ms
    return span_ms >= (rule.tick_ms if kind is Kind.TICK else rule.step_ms)
