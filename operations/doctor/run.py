"""Running the checks one after the other: whatever one meets, and however long it hangs, the next one runs."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from operations.doctor.checks import Checks, DoctorSettings
from operations.doctor.judge import Finding, Level
from runtime.errors import MillraceError
from schemas.errors import ContractError

CHECK_S: Final = 30.0
"""Time-out of a check."""

Check = Callable[[], Iterator[Finding]]
Findings = Callable[[Finding], None]


def doctor(settings: DoctorSettings, data: Path, found: Findings = lambda _: None) -> list[Finding]:
    """Check a deployment from outside. `found` is called for each finding as soon as it is known.

    `data`: the folder of a local platform, if it is one. Raises nothing that a check meets: that is a finding.
    """
    return run(Checks(settings, data).all(), found)


def run(checks: Mapping[str, Check], found: Findings, timeout_s: float = CHECK_S) -> list[Finding]:
    """The findings of all checks, in order."""
    everything: list[Finding] = []
    for name, check in checks.items():
        for finding in in_time(name, check, timeout_s):
            found(finding)
            everything.append(finding)
    return everything


def in_time(name: str, check: Check, timeout_s: float) -> Iterator[Finding]:
    """What a check finds within its time-out. A thread that hangs longer is left behind: it ends with the process."""
    arrived: queue.Queue[Finding | None] = queue.Queue()

    def work() -> None:
        for finding in examined(name, check):
            arrived.put(finding)
        arrived.put(None)

    threading.Thread(target=work, name=f"doctor-{name}", daemon=True).start()
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            finding = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            what = f"not finished after {timeout_s:.0f} s"
            yield Finding(name, Level.WRONG, what, "look at what it asks: does it answer at all?")
            return
        if finding is None:
            return
        yield finding


def examined(name: str, check: Check) -> Iterator[Finding]:
    """What one check finds; that it could see nothing is a finding, too."""
    try:
        yield from check()
    except KafkaException as error:
        yield Finding(name, Level.WRONG, f"Kafka: {error.args[0].str()}", "does it run and is it reachable?")
    except (MillraceError, ContractError, OSError, ValueError, KeyError, TimeoutError) as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        yield Finding(name, Level.WRONG, f"cannot be checked: {text}", "resolve that first, then run it again")
