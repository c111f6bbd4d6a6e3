"""chdb's connections. One request has one connection and one thread; chdb releases the interpreter while it works."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from local.clickhouse import errors, sql, users
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.external import External
from local.clickhouse.room import Room
from runtime.tasks import in_pool

log = logging.getLogger(__name__)
T = TypeVar("T")

_INCOMING: Final = "_millrace_incoming"
"""A table of the connection's own, which ends with it."""
_READERS_WAITING: Final = 64
_READER_WAIT_S: Final = 30.0
"""A dashboard asks for all its panels at once; so many wait for their turn so long."""
_CHDB_FORMATS: Final = frozenset(("dataframe", "arrowtable", "datastore"))
"""Words that chdb takes for Python objects; ClickHouse has no such formats."""


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer and the counts of `X-ClickHouse-Summary`."""

    data: bytes = b""
    summary: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """Under which conditions a statement runs. `settings`: those of the request that the user may give (allowed.py)."""

    user: users.User
    database: str | None
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    may_write: bool
    external: Sequence[External] = ()


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_name(text: str) -> str:
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


class _Worker:
    """A thread, and the connection that it works on. Every method runs in that thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "engine")

    async def do(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call it in the thread. Raises ClickHouseError for whatever the engine raises.

        A call is always waited for, however often the request is cancelled: the connection must not be closed under it.
        """
        try:
            return await in_pool(self._pool, call, *arguments)
        except ClickHouseError:
            raise
        except Exception as error:
            raise ClickHouseError(str(error)) from None


class Connection:
    """One request's connection."""

    def __init__(self, worker: _Worker, handle: Any, session: Session, room: Room) -> None:
        self._worker = worker
        self._handle = handle
        self._session = session
        self._room = room

    def prepare(self) -> None:
        """Role, database, settings, rights. Runs in the worker's thread; `readonly` comes last, for then nothing more
        can be set, by SET or by a SETTINGS clause."""
        session, run = self._session, self._handle.query
        if session.user.role:
            run(f"SET ROLE {session.user.role}")
        if session.database:
            run(f"USE {_quote_name(session.database)}")
        pairs = [f"{name} = {_quote(value)}" for name, value in session.settings.items()]
        if pairs:
            run("SET " + ", ".join(pairs))
        for table in session.external:
            self._bring(table)
        if session.user.reads_only:
            run("SET readonly = 1")
        elif not session.may_write:
            run("SET readonly = 2")

    def _bring(self, table: External) -> None:
        """Make the request's own table; it ends with the connection."""
        if self._session.user.reads_only:
            raise errors.readonly("External data are not taken from readers")
        self._handle.query(f"CREATE TEMPORARY TABLE {_quote_name(table.name)} ({table.structure})")
        inserter = self._handle.send_insert(f"INSERT INTO {_quote_name(table.name)}", table.format)
        inserter.append(table.data)
        inserter.finish()

    async def canonical(self, sql: str) -> str:
        """The statement as ClickHouse's parser understands it, which takes it as data: nothing of it is run.

        Raises ClickHouseError for what is not a statement, and for several.
        """

        def call() -> str:
            found = self._handle.query(f"SELECT formatQuerySingleLine({_quote(sql)})", "TabSeparatedRaw")
            return str((found.bytes() or b"").decode("utf-8", "replace").removesuffix("\n"))

        return await self._worker.do(call)

    async def run(self, sql: str, form: str) -> Result:
        """The whole answer at once."""
        _check_format(form)

        def call() -> Result:
            found = self._handle.query(sql, form, params=dict(self._session.parameters))
            counts = {
                "read_rows": found.storage_rows_read(),
                "read_bytes": found.storage_bytes_read(),
                "written_rows": found.rows_written(),
                "written_bytes": found.bytes_written(),
                "result_rows": found.rows_read(),
            }
            return Result(found.bytes(), counts)

        result = await self._worker.do(call)
        self._room.check()
        return result

    async def stream(self, sql: str, form: str) -> AsyncIterator[bytes] | None:
        """Chunks of a SELECT's answer, each a whole file of the format; None when this one cannot be streamed."""
        _check_format(form)
        try:
            found = await self._worker.do(self._handle.send_query, sql, form, dict(self._session.parameters))
        except ClickHouseError as error:
            if "Streaming query is not supported" in str(error):
                return None
            raise
        return self._chunks(found)

    async def _chunks(self, found: Any) -> AsyncIterator[bytes]:
        def fetch() -> tuple[int, bytes]:
            # chdb 4.4: StreamingResult.fetch drops the last part, which has no rows, and with it the schema of an
            # answer that has no rows at all
            part = found._conn.streaming_fetch_result(found._result)
            return (0, b"") if part is None else (part.rows_read(), part.bytes() or b"")

        any_yet = False
        try:
            while True:
                rows, data = await self._worker.do(fetch)
                if data and (rows or not any_yet):
                    any_yet = True
                    yield data
                if not rows:
                    return
        finally:
            await self._worker.do(found.close)

    async def insert(self, head: bytes, form: str, chunks: AsyncIterator[bytes]) -> Result:
        """Insert what `chunks` bring: all of it, or nothing and an error, up to a million rows.

        chdb's streaming insert says that it has written what the table refused (a full disk, too many parts). Into a
        table in memory nothing is refused; from there an INSERT … SELECT writes, whose errors are raised.
        """
        do = self._worker.do
        for name, value in self._session.parameters.items():
            await do(self._handle.query, f"SET param_{name} = {_quote(value)}")
        target = sql.target(head)
        if target is None:
            return await self._stream_in(head.decode(), form, chunks)
        columns = f" ({target.columns})" if target.columns else ""
        await do(self._handle.query, f"CREATE TEMPORARY TABLE {_INCOMING} ENGINE = Memory AS {target.table}")
        result = await self._stream_in(f"INSERT INTO {_INCOMING}{columns}", form, chunks)
        await do(self._check_incoming, result.summary["written_rows"])
        select = f"SELECT {target.columns or '*'} FROM {_INCOMING}"  # noqa: S608  # of the client's own statement
        await do(self._handle.query, f"INSERT INTO {target.table}{columns} {target.rest} {select}")
        self._room.check()
        return result

    def _check_incoming(self, rows: int) -> None:
        held = int(self._handle.query(f"SELECT count() FROM {_INCOMING}", "TabSeparated").bytes())  # noqa: S608
        if held != rows:
            raise errors.memory(f"{rows} rows were read, and there was room for {held} of them")

    async def _stream_in(self, head: str, form: str, chunks: AsyncIterator[bytes]) -> Result:
        do = self._worker.do
        inserter = await do(self._handle.send_insert, head, form)
        try:
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    await do(inserter.append, chunk)
            done = await do(inserter.finish)
        except BaseException:
            await do(inserter.cancel)
            raise
        self._room.check()
        counts = {"written_rows": done.rows_written, "written_bytes": done.bytes_written}
        return Result(b"", counts | {"read_rows": done.rows_written, "read_bytes": done.bytes_written})


def _check_format(form: str) -> None:
    if form.lower() in _CHDB_FORMATS:
        raise ClickHouseError(f"Unknown format {form}. (UNKNOWN_FORMAT)", 73)


class Engine:
    """The engine on one folder, which belongs to this process as long as it lives."""

    def __init__(self, room: Room, workers: int, readers: int) -> None:
        """The folder of `room` holds etc/config.xml (users.write_configuration). Of `workers`, readers take at most
        `readers`."""
        # loading chdb starts threads and an engine, which must be confined already (sandbox.py)
        from chdb.state.sqlitelike import Connection as Handle

        self._room, folder = room, room.folder
        self._connect = partial(Handle, f"{folder / 'db'}?config-file={folder / 'etc' / 'config.xml'}")
        self._keep = self._connect()  # the engine lives as long as one connection does
        self._keep.query(f"CREATE DATABASE IF NOT EXISTS {users.DATABASE}")
        found = self._keep.query("SELECT version(), timezone()", "TabSeparated").bytes().decode()
        self.version, self.timezone = found.rstrip("\n").split("\t")
        self._size = workers
        self._readers = asyncio.Semaphore(min(readers, max(1, workers - 1)))
        self._readers_waiting = 0
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        for _ in range(workers):
            self._idle.put_nowait(_Worker())

    @asynccontextmanager
    async def connection(self, session: Session) -> AsyncIterator[Connection]:
        """A connection of one's own, when a worker is free. Raises ClickHouseError when readers are too many."""
        async with self._turn(session.user), self._connected(session) as connection:
            yield connection

    @asynccontextmanager
    async def _turn(self, user: users.User) -> AsyncIterator[None]:
        if not user.reads_only:
            yield
            return
        if self._readers_waiting >= _READERS_WAITING:
            raise errors.busy(f"Too many simultaneous queries for user {user.name}")
        self._readers_waiting += 1
        try:
            async with asyncio.timeout(_READER_WAIT_S):
                await self._readers.acquire()
        except TimeoutError:
            raise errors.busy(f"Too many simultaneous queries for user {user.name}") from None
        finally:
            self._readers_waiting -= 1
        try:
            yield
        finally:
            self._readers.release()

    @asynccontextmanager
    async def _connected(self, session: Session) -> AsyncIterator[Connection]:
        worker = await self._idle.get()
        try:
            handle = await worker.do(self._connect)
            try:
                connection = Connection(worker, handle, session, self._room)
                await worker.do(connection.prepare)
                yield connection
            finally:
                await worker.do(handle.close)
        finally:
            self._idle.put_nowait(worker)

    async def stop(self, patience: int = 30) -> None:
        """End what runs, then let the last connection go: that stops merges and the engine."""
        for _ in range(patience):
            if self._idle.qsize() == self._size:
                break
            self._keep.query("KILL QUERY WHERE query NOT LIKE 'KILL QUERY%' ASYNC")
            await asyncio.sleep(0.2)
        else:
            log.warning("statements did not end", extra={"busy": self._size - self._idle.qsize()})
        self._keep.close()
