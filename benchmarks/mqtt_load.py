"""MQTT load: a publisher that keeps a broker busy, and a fake broker that keeps a bridge busy. Processes of their own.

    python -m benchmarks.mqtt_load publish SOCKET USER PASSWORD MESSAGES DEVICES [told]
    python -m benchmarks.mqtt_load flood PORT MESSAGES DEVICES

Packets are made beforehand and sent in blocks; PUBACKs are counted by their bytes. `told` adds the user properties boot
and seq to each message.
"""

import select
import socket
import sys
import time
from collections.abc import Iterator

_BLOCK = 200
_PUBACK_BYTES = 4
_WINDOW = 15_000


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(first: int, body: bytes) -> bytes:
    low, high = len(body) & 127, len(body) >> 7
    assert high < 128
    return bytes([first, low | 128, high] if high else [first, low]) + body


def _message(i: int, devices: int, told: bool) -> bytes:
    properties = b""
    if told:
        properties = b"\x26" + _text(b"boot") + _text(b"1") + b"\x26" + _text(b"seq") + _text(b"%d" % i)
    body = _text(b"d/dev-%06d/telemetry/climate" % (i % devices)) + (i % 65_000 + 1).to_bytes(2, "big")
    payload = b'{"temperature":%05.2f,"humidity":%04.1f,"vibration":%06.4f}' % (10 + i % 30, 20 + i % 70, i % 97 / 5e3)
    return _packet(0x32, body + bytes([len(properties)]) + properties + payload)


def blocks(messages: int, devices: int, told: bool = False) -> list[bytes]:
    """QoS 1 messages in blocks of 200 (MQTT 5): about 130 bytes each, one device after the other."""
    return [
        b"".join(_message(i, devices, told) for i in range(start, start + _BLOCK))
        for start in range(0, messages, _BLOCK)
    ]


def _pump(connection: socket.socket, source: Iterator[bytes], messages: int) -> None:
    """Send blocks while the window allows, until all PUBACKs are there."""
    connection.setblocking(False)
    sent = acked = 0
    out = memoryview(b"")
    while acked < messages * _PUBACK_BYTES:
        room = len(out) > 0 or (sent < messages and sent - acked // _PUBACK_BYTES < _WINDOW)
        readable, writable, _ = select.select([connection], [connection] if room else [], [], 1)
        if writable:
            if not len(out):
                out = memoryview(next(source))
                sent += _BLOCK
            out = out[connection.send(out) :]
        if readable:
            got = connection.recv(1 << 18)
            if not got:
                sys.exit("the connection ended")
            acked += len(got)


def publish(path: str, user: str, password: str, messages: int, devices: int, told: bool) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    head = _text(b"MQTT") + b"\x05\xc2\x00\x00\x00" + _text(b"load") + _text(user.encode()) + _text(password.encode())
    connection.sendall(_packet(0x10, head))
    assert connection.recv(100)[0] == 0x20
    made = blocks(messages, devices, told)
    started = time.perf_counter()
    _pump(connection, iter(made), len(made) * _BLOCK)
    print(f"{messages / (time.perf_counter() - started):.0f} msg/s", flush=True)


def flood(port: int, messages: int, devices: int) -> None:
    """A broker for one client: CONNACK, SUBACK, then messages as fast as they are acknowledged."""
    made = blocks(20_000, devices)
    with socket.create_server(("127.0.0.1", port)) as server:
        print("up", flush=True)
        connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"\x20\x03\x00\x00\x00")
    subscribe = connection.recv(1000)
    connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
    while sys.stdin.readline():
        started = time.perf_counter()
        _pump(connection, (made[i % len(made)] for i in range(messages // _BLOCK)), messages)
        print(messages / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(*sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7:] == ["told"])
    else:
        flood(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
