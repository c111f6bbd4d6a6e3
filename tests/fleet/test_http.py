"""Devices that POST, against a server that is not always well."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from local.fleet.http import Sender
from local.fleet.publication import Publication
from local.fleet.totals import Totals
from runtime.errors import FatalError
from runtime.mqtt.wire import binary
from tests.support.waiting import wait_for_async

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def publications(first: int, count: int, channel: str = "meter") -> list[Publication]:
    topic = binary(f"d/meter-1/telemetry/{channel}".encode())
    return [Publication(topic, b"", b'{"seq":%d}' % seq) for seq in range(first, first + count)]


async def send(answer: Answer, batches: list[list[Publication]]) -> Totals:
    application = web.Application()
    application.router.add_post("/v1/devices/{id}/telemetry/{channel}", answer)
    totals = Totals()
    async with TestServer(application) as server:
        sender = Sender(str(server.make_url("")), {"meter-1": "secret"}, totals)
        try:
            for batch in batches:
                sender.send("meter-1", batch)

            def done() -> bool:
                sender.check()
                return not totals.open

            await wait_for_async(done, "every answer")
        finally:
            await sender.close()
    return totals


def test_lines_arrive_in_order_with_token_and_channel() -> None:
    received: list[tuple[str, int]] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.content_type == "application/x-ndjson"
        lines = (await request.text()).splitlines()
        received.extend((request.match_info["channel"], orjson.loads(line)["seq"]) for line in lines)
        return web.json_response({}, status=202)

    totals = asyncio.run(send(answer, [publications(0, 3), publications(3, 2, "motor"), publications(5, 1)]))
    assert received == [("meter", 0), ("meter", 1), ("meter", 2), ("motor", 3), ("motor", 4), ("meter", 5)]
    assert (totals.given, totals.acknowledged, totals.resent) == (6, 6, 0)


def test_what_was_not_taken_is_sent_again_until_it_is() -> None:
    answers = iter([503, 429, 0, 401, 202])
    received: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(await request.read())
        status = next(answers)
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 500, headers={"Retry-After": "0"})

    totals = asyncio.run(send(answer, [publications(0, 4)]))
    assert len(received) == 5
    assert len(set(received)) == 1
    assert (totals.acknowledged, totals.resent) == (4, 16)


def test_a_refusal_that_will_not_change_ends_the_run() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=413, text="too large")

    with pytest.raises(FatalError, match="HTTP 413: too large"):
        asyncio.run(send(answer, [publications(0, 1)]))
