"""How an operation says what it has done so far: a callback, which a terminal prints and a console shows."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One finished piece of an operation: a table that was written, a phase that was reached.

    `done` of `total` in `unit`; `total` is None where nobody knows it before the end.
    """

    what: str
    done: int
    unit: str = "rows"
    total: int | None = None

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.what}: {self.done:,}{of} {self.unit}"


Report = Callable[[Step], None]


def silent(_step: Step) -> None:
    """The default: nobody listens."""
