"""Devices that POST: what a device measured in a while goes in one request, a line a message, until it is answered 202.

A device sends one request after the other, so its messages stay in order; what was refused for the moment (429, 503) or
got no answer is sent again with the same boot and seq, so that it counts once.
"""

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import aiohttp

from local.fleet.publication import Publication
from local.fleet.totals import Totals
from runtime.errors import FatalError
from runtime.retry import RetryPolicy
from runtime.tasks import cancel

log = logging.getLogger(__name__)

GATHER_S: Final = 2.0
"""How long a device waits for company before it sends."""
MAX_MESSAGES: Final = 500
REQUEST_TIMEOUT_S: Final = 60.0
CONNECTIONS: Final = 32
FRESH_S: Final = 10.0
"""So long a token that was just made may be unknown to the platform."""
_AGAIN: Final = RetryPolicy(first_s=0.2, longest_s=5.0)
_NOT_NOW: Final = frozenset((408, 429, 500, 502, 503, 504))


class Sender:
    """All devices that use HTTP. `url` is the platform's, `tokens` by device id."""

    def __init__(self, url: str, tokens: Mapping[str, str], totals: Totals, tls: ssl.SSLContext | None = None) -> None:
        self._url, self._tokens, self._totals = url.rstrip("/"), tokens, totals
        self._queues: dict[str, deque[Publication]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls if tls is not None else True)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._born = asyncio.get_running_loop().time()

    def send(self, device: str, publications: Sequence[Publication]) -> None:
        """Take messages of a device; they leave within GATHER_S."""
        self._totals.given += len(publications)
        self._queues.setdefault(device, deque()).extend(publications)
        task = self._tasks.get(device)
        if task is None or task.done():
            self._tasks[device] = asyncio.create_task(self._empty(device))

    def check(self) -> None:
        """Raises what a device's requests ended with, when that cannot get better."""
        for task in self._tasks.values():
            if task.done() and (error := task.exception()) is not None:
                raise error

    async def close(self) -> None:
        await cancel(*self._tasks.values())
        await self._session.close()

    async def _empty(self, device: str) -> None:
        queue = self._queues[device]
        while queue:
            await asyncio.sleep(GATHER_S * random.uniform(0.5, 1.0))  # noqa: S311 (spread, not secrecy)
            batch = [queue.popleft() for _ in range(min(len(queue), MAX_MESSAGES))]
            for channel, group in groupby(batch, key=_channel):
                payloads = [publication.payload for publication in group]
                await self._deliver(device, channel, payloads)
                self._totals.acknowledged += len(payloads)

    async def _deliver(self, device: str, channel: str, payloads: list[bytes]) -> None:
        failures = 0
        while (wait_s := await self._post(device, channel, payloads)) is not None:
            self._totals.resent += len(payloads)
            failures += 1
            await asyncio.sleep(max(wait_s, _AGAIN.wait_s(failures)))

    async def _post(self, device: str, channel: str, payloads: list[bytes]) -> float | None:
        """None when it was taken, else the seconds after which to try again. Raises FatalError for a refusal."""
        headers = {"Authorization": f"Bearer {self._tokens[device]}", "Content-Type": "application/x-ndjson"}
        url = f"{self._url}/v1/devices/{device}/telemetry/{channel}"
        try:
            async with self._session.post(url, data=b"\n".join(payloads), headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._totals.error = f"{device}: {error or type(error).__name__}"
            return 0.0
        if answer.status == 202:
            return None
        self._totals.error = f"{device}: HTTP {answer.status}: {text[:200]}"
        fresh = asyncio.get_running_loop().time() - self._born < FRESH_S
        if answer.status in _NOT_NOW or (answer.status == 401 and fresh):
            after = answer.headers.get("Retry-After", "")
            return float(after) if after.isdigit() else 0.0
        raise FatalError(self._totals.error)


def _channel(publication: Publication) -> str:
    return publication.topic[2:].decode().rpartition("/")[2]
