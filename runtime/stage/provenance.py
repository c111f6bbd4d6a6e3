"""Whether a derived record is new, a repeat, or follows a gap. Pure; stages and sinks ask the same question here.

The records of one partition of a derived topic form a chain: each names the offset of its raw record (`src`, within an
epoch of telemetry.raw) and that of its writer's previous record (`prev`). Writers repeat themselves after a restart and
zombies repeat others, but every writer writes in order and leaves nothing out. So a reader that keeps the highest src
it has taken sees each record once: it drops what is not above, takes what links to it, and stops where the link is
missing.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from runtime.errors import RefusedError
from schemas.headers import Provenance

NONE: Final = -1
"""As a src: no record yet."""


@dataclass(frozen=True, slots=True, order=True)
class Highest:
    """The furthest record taken of one partition: epoch of telemetry.raw and offset there."""

    epoch: int = NONE
    src: int = NONE


START: Final = Highest()


class GapError(RefusedError):
    """A record is missing before this one."""


class Decision(Enum):
    APPLY = "apply"
    DROP = "drop"


def judge(highest: Highest, record: Provenance, where: str) -> Decision:
    """What to do with the next record of a partition of which `highest` was taken. `where` names it in the error.

    A new epoch (telemetry.raw was re-created) starts a chain of its own, with a record whose prev is -1.

    Raises GapError when something is missing between the two: skipping it silently would lose it.
    """
    if record.epoch < highest.epoch or (record.epoch == highest.epoch and record.src <= highest.src):
        return Decision.DROP
    expected = highest.src if record.epoch == highest.epoch else NONE
    if record.prev == expected:
        return Decision.APPLY
    raise GapError(
        f"{where}: gap in provenance: it follows raw offset {record.prev} of epoch {record.epoch}, but the last record"
        f" taken here came from {highest.src} of epoch {highest.epoch}. What is between them is missing: the topic lost"
        " it (retention, truncation) or its writer started with an empty state. Nothing was skipped: restore the topic"
    )


def after(record: Provenance) -> Highest:
    """The highest once the record is taken."""
    return Highest(record.epoch, record.src)
