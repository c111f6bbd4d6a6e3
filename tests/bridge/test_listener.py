"""bridge.listener with real sockets and TLS, on asyncio's event loop and on uvloop."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.connections import ConnectionLimits
from bridge.listener import Listener
from identity.authority import Authority
from runtime.addresses import Listen
from tests.support.waiting import wait_for_async

FULL = b"full\n"
HOME, ELSEWHERE = "127.0.0.1", "127.0.0.2"

Run = Callable[[Coroutine[None, None, None]], None]
loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class Echo(asyncio.Protocol):
    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = Authority.open(folder / "ca").issue_server(["localhost"])
    (folder / "both.pem").write_bytes(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "both.pem")
    return context


@asynccontextmanager
async def listening(
    tls: ssl.SSLContext | None, limits: ConnectionLimits, handshake_s: float = 3600.0
) -> AsyncIterator[Listener]:
    listener = Listener(Listen("127.0.0.1:0"), tls, limits, Echo, lambda sock: sock.send(FULL) and None, handshake_s)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


async def connect(port: int, source: str = HOME) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, (HOME, port))
    return sock


def client() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def speak(port: int, source: str = HOME, tls: bool = True) -> bytes:
    """What comes back for a word, or nothing where the connection is refused."""
    try:
        reader, writer = await asyncio.open_connection(
            HOME, port, ssl=client() if tls else None, local_addr=(source, 0)
        )
    except OSError:
        return b""
    try:
        writer.write(b"word")
        return await reader.read(4)
    except OSError:
        return b""
    finally:
        writer.close()


@loops
def test_connections_that_never_begin_tls_count_and_one_address_does_not_keep_others_out(
    run: Run, tls: ssl.SSLContext
) -> None:
    async def test() -> None:
        limits = ConnectionLimits(10)
        async with listening(tls, limits) as listener:
            silent = [await connect(listener.port) for _ in range(100)]
            await wait_for_async(lambda: closed(silent) == 95, "all but five to be closed")
            assert limits.open == 5
            assert await speak(listener.port) == b""
            assert await speak(listener.port, ELSEWHERE) == b"word"
            for sock in silent:
                sock.close()
            await wait_for_async(lambda: limits.open == 0, "the room to be given back")
            assert await speak(listener.port) == b"word"

    run(test())


def closed(sockets: list[socket.socket]) -> int:
    count = 0
    for sock in sockets:
        try:
            count += sock.recv(100, socket.MSG_PEEK) in (b"", FULL)
        except BlockingIOError:
            pass
        except ConnectionError:
            count += 1
    return count


@loops
def test_a_handshake_that_does_not_end_in_time_gives_its_room_back(run: Run, tls: ssl.SSLContext) -> None:
    async def test() -> None:
        limits = ConnectionLimits(4)
        async with listening(tls, limits, handshake_s=0.2) as listener:
            silent = [await connect(listener.port) for _ in range(2)]
            await wait_for_async(lambda: closed(silent) == 2, "the handshakes to be ended")
            await wait_for_async(lambda: limits.open == 0, "the room to be given back")
            for sock in silent:
                sock.close()
            assert limits.enter(HOME, True) and limits.enter(HOME, True), "no handshake is counted any more"

    run(test())


@loops
def test_no_end_of_a_connection_keeps_its_room(run: Run, tls: ssl.SSLContext) -> None:
    async def test() -> None:
        limits = ConnectionLimits(1000)
        async with listening(tls, limits) as listener:
            hello = hello_of(client())
            for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", hello, hello[:100], bytes(500)):
                for end in (reset, finish, lambda sock: sock.close()):
                    sock = await connect(listener.port)
                    await asyncio.get_running_loop().sock_sendall(sock, sent)
                    end(sock)
                    await wait_for_async(lambda: limits.open == 0, f"the end of {sent[:5]!r}")
                    sock.close()
            assert await speak(listener.port) == b"word"
            await wait_for_async(lambda: limits.open == 0, "the end of a good one")

    run(test())


def hello_of(context: ssl.SSLContext) -> bytes:
    """A client's first bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def finish(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


@loops
def test_a_connection_above_the_bound_is_answered_without_tls(run: Run) -> None:
    async def test() -> None:
        limits = ConnectionLimits(2)
        async with listening(None, limits) as listener:
            both = [await connect(listener.port) for _ in range(2)]
            await wait_for_async(lambda: limits.open == 2, "both to be taken")
            assert await speak(listener.port, tls=False) == FULL[:4]
            both.pop().close()
            await wait_for_async(lambda: limits.open == 1, "the room to be given back")
            assert await speak(listener.port, tls=False) == b"word"
            both.pop().close()
            await wait_for_async(lambda: limits.open == 0, "the end of all")

    run(test())


@loops
def test_a_stop_breaks_handshakes_off_and_leaves_the_rest(run: Run, tls: ssl.SSLContext) -> None:
    async def test() -> None:
        limits = ConnectionLimits(10)
        async with listening(tls, limits) as listener:
            reader, writer = await asyncio.open_connection(HOME, listener.port, ssl=client())
            silent = await connect(listener.port)
            await wait_for_async(lambda: limits.open == 2, "both to be taken")
            await listener.stop()
            await wait_for_async(lambda: limits.open == 1, "the handshake to be broken off")
            writer.write(b"word")
            assert await reader.readexactly(4) == b"word"
            writer.close()
            await wait_for_async(lambda: limits.open == 0, "the end of the other")
            silent.close()

    run(test())


# the limits alone


@given(st.integers(1, 20), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2))))
def test_at_most_so_many_are_open_and_half_of_them_in_handshakes_of_one_address(
    most: int, moves: list[tuple[str, int]]
) -> None:
    limits, greeting, served = ConnectionLimits(most), [], 0
    for address, move in moves:
        if move == 0:
            taken = limits.enter(address, True)
            assert taken == (len(greeting) + served < most and greeting.count(address) < max(1, most // 2))
            greeting += [address] * taken
        elif move == 1 and address in greeting:
            greeting.remove(address)
            limits.greeted(address)
            served += 1
        elif move == 2 and served:
            limits.leave()
            served -= 1
        assert limits.open == len(greeting) + served <= most
