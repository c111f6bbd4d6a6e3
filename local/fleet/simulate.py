"""A plan, paced, over real connections: what was sent, what was acknowledged, and what must now be found."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from local.fleet.connections import Connections, Endpoints
from local.fleet.plan import Expected, Message, Plan
from local.fleet.publication import Publication
from local.fleet.schedule import Fate

MAX_OPEN: Final = 100_000
"""Messages that wait for an acknowledgement: beyond, the fleet waits, too. Memory stays bounded."""
_RESUME: Final = MAX_OPEN // 2


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went. `expected` by the plan; `sent`: messages given to the devices, by fate. Times in seconds."""

    expected: Expected
    sent: dict[str, int]
    acknowledged: int
    resent: int
    refused: int
    connects: int
    connect_s: float
    send_s: float
    drain_s: float
    cpu_us: float
    behind_s: float
    last_error: str

    @property
    def complete(self) -> bool:
        """All of the plan was sent and acknowledged."""
        wanted = {fate: getattr(self.expected, fate) for fate in self.sent}
        return self.sent == wanted and not self.refused

    def json(self) -> dict[str, Any]:
        found = asdict(self)
        found["msgs_per_s"] = round(self.expected.messages / self.send_s, 1) if self.send_s else None
        return found | {"complete": self.complete}


_NAMES: Final = {
    Fate.ACCEPTED: "accepted",
    Fate.DENIED: "denied",
    Fate.DEAD_LETTER: "dead_letters",
    Fate.DUPLICATE: "duplicates",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Called now and then: devices connected; messages sent so far."""

    connected: Callable[[int], None] = lambda _: None
    sent: Callable[[int], None] = lambda _: None


async def simulate(
    plan: Plan, endpoints: Endpoints, tokens: dict[str, str], progress: Progress | None = None
) -> Report:
    """Run the plan. `tokens` of the members with HTTP. Raises RetryableError when the platform takes no more."""
    progress = progress or Progress()
    members = plan.population.members
    begun = time.monotonic()
    listening = frozenset(m.id for m in members if m.acknowledged)
    async with Connections(endpoints, [m.id for m in members], tokens, listening) as connections:
        await connections.connected(progress.connected)
        connect_s = time.monotonic() - begun
        with _few_collections():
            sent, send_s, cpu_us, behind_s = await _send(plan, connections, progress)
        begun = time.monotonic()
        await connections.done()
        totals = connections.totals
        return Report(
            expected=plan.expected(),
            sent={name: sent[fate] for fate, name in _NAMES.items()},
            acknowledged=totals.acknowledged,
            resent=totals.resent,
            refused=totals.refused,
            connects=totals.connects,
            connect_s=round(connect_s, 3),
            send_s=round(send_s, 3),
            drain_s=round(time.monotonic() - begun, 3),
            cpu_us=round(cpu_us, 2),
            behind_s=round(behind_s, 3),
            last_error=totals.error,
        )


async def _send(plan: Plan, connections: Connections, progress: Progress) -> tuple[Counter[Fate], float, float, float]:
    """(messages by fate, seconds, CPU µs a message, largest delay behind the plan in seconds)."""
    ids = [m.id for m in plan.population.members]
    sent: Counter[Fate] = Counter()
    begun, cpu, behind_s, count = time.monotonic(), time.process_time(), 0.0, 0
    for due_ms, messages, rebooted in plan.ticks():
        early_s = begun + due_ms / 1000 - time.monotonic()
        behind_s = max(behind_s, -early_s)
        await asyncio.sleep(max(0.0, early_s))
        if connections.totals.open > MAX_OPEN:
            await connections.done(left=_RESUME)
        for device in rebooted:
            connections.restart(ids[device])
        for device, publications in _by_device(messages).items():
            connections.send(ids[device], publications)
        sent.update([message[1] for message in messages])
        count += len(messages)
        progress.sent(count)
    used_us = (time.process_time() - cpu) * 1e6 / max(1, count)
    return sent, time.monotonic() - begun, used_us, behind_s


def _by_device(messages: list[Message]) -> dict[int, list[Publication]]:
    found: dict[int, list[Publication]] = {}
    for device, _, _, _, publication in messages:
        one = found.get(device)
        if one is None:
            found[device] = [publication]
        else:
            one.append(publication)
    return found


class _few_collections:  # noqa: N801 (used like a function)
    """The garbage collector walks hundreds of thousands of waiting messages for nothing: let it come rarely."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()
        self._before = gc.get_threshold()
        gc.set_threshold(200_000, 50, 100)

    def __exit__(self, *_: object) -> None:
        gc.set_threshold(*self._before)
        gc.unfreeze()
