"""The ASGI application: a request in, the engine's answer out."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from local.clickhouse import allowed, errors, formats, sql, users
from local.clickhouse.answers import Answer, Send
from local.clickhouse.engine import Connection, Engine, Session
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.exchange import Disconnected, Exchange, Receive
from local.clickhouse.sql import Kind, Statement

log = logging.getLogger(__name__)


class App:
    """ClickHouse's HTTP interface over an engine, for the users given."""

    def __init__(
        self, engine: Engine, known: Mapping[str, users.User], readers: str | None = None, in_reach: str = ""
    ) -> None:
        """`readers`: why readers are not served; None: they are. `in_reach`: what the kernel does not keep from the
        engine (sandbox.py)."""
        self._engine = engine
        self._users = known
        self._no_readers = readers
        self._confinement = orjson.dumps({"in_reach": in_reach, "readers_served": readers is None})

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        exchange = Exchange(scope, receive)
        answer = Answer(exchange, send, self._engine.timezone)
        try:
            exchange.read_query()
            await self._serve(exchange, answer)
        except Disconnected:
            log.debug("client went away", extra={"query_id": exchange.query_id})
        except ClickHouseError as error:
            await self._fail(answer, error)
        except Exception as error:
            log.exception("a request failed", extra={"query_id": exchange.query_id})
            await self._fail(answer, ClickHouseError(f"{type(error).__name__}: {error}. (LOGICAL_ERROR)", 49))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._engine.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _fail(self, answer: Answer, error: ClickHouseError) -> None:
        if not answer.started:
            await answer.error(error)
        # else the chunked body stays without its end, which is all that HTTP has left to say

    async def _serve(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.path == "/ping" or (
            exchange.path == "/" and not exchange.has_body and "query" not in exchange.query
        ):
            await answer.text(200, b"Ok.\n")
        elif exchange.path == "/confinement":
            await answer.text(200, self._confinement)  # a page of our own, for `millrace doctor`
        elif exchange.path != "/":
            await answer.text(
                404, b"There is no such page: statements go to /, and /ping answers whether the server is up.\n"
            )
        else:
            await self._answer(exchange, answer)

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        user = users.authenticate(self._users, exchange.headers, exchange.query)
        if user.reads_only:
            await self._read(user, exchange, answer)
            return
        statement = await exchange.statement()
        async with self._engine.connection(self._session(user, exchange)) as connection:
            await self._execute(connection, exchange, answer, statement, exchange.sql.decode("utf-8", "replace"))

    async def _read(self, user: users.User, exchange: Exchange, answer: Answer) -> None:
        """Run a reader's statement in the form that ClickHouse's parser gave it, if that reads and nothing else."""
        if self._no_readers:
            raise errors.denied(self._no_readers)
        text = await exchange.readers_statement()
        async with self._engine.connection(self._session(user, exchange)) as connection:
            canonical = await connection.canonical(text)
            await self._execute(connection, exchange, answer, sql.of_reader(canonical.encode()), canonical)

    def _session(self, user: users.User, exchange: Exchange) -> Session:
        settings = allowed.settings(user, exchange.settings())
        may_write = exchange.method != "GET"
        return Session(user, exchange.database, settings, exchange.parameters(), may_write, exchange.external)

    async def _execute(
        self, connection: Connection, exchange: Exchange, answer: Answer, statement: Statement, text: str
    ) -> None:
        form = exchange.format_of(statement)
        if statement.kind is Kind.INSERT:
            result = await connection.insert(statement.head, form, exchange.data())
            await answer.result(result, None)
            return
        joiner = formats.joiner(form)
        if statement.kind is Kind.SELECT and joiner is not None and not exchange.wants_whole:
            chunks = await connection.stream(text, form)
            if chunks is not None:
                await answer.stream(chunks, form, joiner)
                return
        result = await connection.run(text, form)
        await answer.result(result, form if result.data or statement.reads_only else None)
