"""Builds the relay and runs it in a thread of its own."""

import asyncio
from typing import Final

from control.relay.relay import Relay
from control.relay.settings import RelaySettings
from runtime import lifecycle
from runtime.kafka.topics import partitions_of_raw, wait_for_facts
from runtime.probes import Probes
from runtime.tasks import in_thread
from schemas import topics

HANG_S: Final = 120.0
"""Without progress of the relay's thread for so long, it is not live. It makes some at least every second, also while
Kafka is unavailable; only a commit may wait longer for an answer."""


class Loop:
    """Part of the service: steps the relay until asked to stop."""

    def __init__(self, relay: Relay, silence_s: float) -> None:
        """`silence_s`: without a tick for so long, it is not ready."""
        self._relay = relay
        self._silence_s = silence_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await in_thread(self._relay.open)
        self._task = lifecycle.guard(self._run(), "relay")

    async def stop(self) -> None:
        self._relay.stopping = True
        if self._task is not None:
            await self._task
        await in_thread(self._relay.close)

    async def _run(self) -> None:
        while not self._relay.stopping:
            await in_thread(self._relay.step)

    def wrong(self) -> str | None:
        """For readiness: ticks are the platform's clock."""
        silent_s = self._relay.silent_s()
        return f"no tick for {silent_s:.0f} s" if silent_s > self._silence_s else None


async def serve(settings: RelaySettings) -> None:
    """Run until asked to stop."""
    await in_thread(partitions_of_raw, settings)
    facts = await in_thread(wait_for_facts, settings, topics.CONTROL, topics.RAW)
    probes = Probes(settings.http_bind)
    beat = probes.worker("relay", HANG_S)
    loop = Loop(Relay(settings, facts[topics.CONTROL], facts[topics.RAW], beat), settings.silence_s)
    probes.checks["ticks"] = loop.wrong
    await lifecycle.run([loop], probes)
