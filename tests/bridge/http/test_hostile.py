"""Clients that mean no good or know no better: the service answers them or ends them, and lives."""

import gzip
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.authority import Authority
from tests.bridge.http.client import Device, read_all, status_of
from tests.bridge.http.conftest import HttpService, Make
from tests.bridge.processes import wait
from tests.bridge.raw_reader import RawReader
from tests.support.waiting import wait_for

KINDS = ("application/json", "application/x-ndjson", "application/senml+json", "application/senml+cbor", "text/html")


def test_bombs_cost_no_memory(service: HttpService, device: Device) -> None:
    zeros = bytes(1 << 20)
    squeezer = zstandard.ZstdCompressor(level=1).compressobj()
    zstd = b"".join(squeezer.compress(zeros) for _ in range(2_000)) + squeezer.flush()
    gzipped = gzip.compress(zeros * 100, 1)
    assert device.post(b"{}").status == 202
    before_mb = service.rss_mb()
    for _ in range(5):
        assert device.post(zstd, Content_Encoding="zstd").status == 413
        assert device.post(gzipped, Content_Encoding="gzip").status == 413
    assert service.rss_mb() - before_mb < 60
    assert device.post(b"{}").status == 202


def test_bodies_that_break_off_leave_no_row(service: HttpService, device: Device, raw: RawReader) -> None:
    kind = "Content-Type: application/json"
    for head, body in (
        (device.head(kind, "Content-Length: 100"), b'{"a":1}'),
        (device.head(kind, "Transfer-Encoding: chunked"), b'7\r\n{"a":1}\r\n'),
    ):
        with device.connect() as sock:
            sock.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
            sock.shutdown(socket.SHUT_WR)
            assert status_of(read_all(sock)) in (0, 400)
    answer = device.raw(device.head(kind, "Transfer-Encoding: chunked"), b'zz\r\n{"a":1}\r\n0\r\n\r\n')
    assert status_of(answer.replace(b"HTTP/1.0", b"HTTP/1.1")) == 400
    assert device.post(b"{}").status == 202
    raw.wait_for_rows(1)
    raw.settle()
    assert len(raw.rows()) == 1
    assert service.metric("millrace_http_reading_bytes") == 0


def test_a_slow_client_is_told_so(device: Device) -> None:
    with device.connect() as sock:
        head = device.head("Content-Type: application/json", "Content-Length: 100")
        sock.sendall(head.replace("\n", "\r\n").encode() + b'\r\n\r\n{"a":')
        assert device.post(b"{}").status == 202
        assert status_of(read_all(sock)) == 408


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /docs HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /docs HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"POST /docs HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/devices/a/telemetry/b HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/devices/a/telemetry/b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/devices/a/telemetry/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/devices/a/telemetry/b HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n",
    ],
)
def test_noise_is_answered_with_a_client_error(service: HttpService, device: Device, noise: bytes) -> None:
    with device.connect() as sock:
        sock.sendall(noise)
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer == b"" or answer[9:10] == b"4", answer
    assert device.post(b"{}").status == 202
    assert "Traceback" not in service.log.read_text()


def test_too_many_requests_of_one_device_are_told_when_to_come_again(
    make: Make, enrol: Callable[[HttpService], Device]
) -> None:
    strict = make(device_requests=2, device_requests_per_s=1, device_burst_s=5, body_timeout_s=20)
    device, other = enrol(strict), enrol(strict)
    head = device.head("Content-Type: application/json", "Content-Length: 2").replace("\n", "\r\n").encode()
    with device.connect() as first, device.connect() as second:
        for sock in (first, second):
            sock.sendall(head + b"\r\n\r\n{")
        answers = []
        wait(lambda: answers.append(device.post(b"{}")) or answers[-1].status == 429, "429")
        assert "in flight" in answers[-1].json["error"]
        assert other.post(b"{}").status == 202
        for sock in (first, second):
            sock.sendall(b"}")
            assert status_of(read_all(sock)) == 202
    found = [device.post(b"{}") for _ in range(5)]
    assert found[-1].status == 429 and 1 <= int(found[-1].headers["Retry-After"]) <= 2
    assert "a second" in found[-1].json["error"]
    assert other.post(b"{}").status == 202


def test_connections_above_the_bound_are_told_to_come_again(make: Make, enrol: Callable[[HttpService], Device]) -> None:
    small = make(max_connections=2)
    device = enrol(small)
    assert device.post(b"{}").status == 202
    with device.connect() as _, device.connect() as third:
        answer = read_all(third)
        assert status_of(answer) == 503 and b"Retry-After: 2" in answer
    wait(lambda: small.metric("millrace_http_connections") == 1, "the others to close")
    assert device.post(b"{}").status == 202


def test_handshakes_that_never_begin_count_as_connections_and_keep_no_other_host_out(
    make: Make, enrol: Callable[[HttpService], Device], tmp_path: Path
) -> None:
    certificate, key = Authority.open(tmp_path / "ca").issue_server(["localhost"])
    (tmp_path / "both.pem").write_bytes(certificate + key)
    small = make(max_connections=10, idle_timeout_s=2, tls_cert_file=tmp_path / "both.pem")
    device = enrol(small)
    silent = [device.connect() for _ in range(300)]
    wait_for(lambda: small.metric("millrace_http_connections_refused_total") == 295, "the others to be closed")
    assert small.metric("millrace_http_connections") == 5
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", small.listen), 20, ("127.0.0.2", 0)) as sock,
        trusting.wrap_socket(sock) as secured,
    ):
        secured.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(read_all(secured)) == 200
    wait_for(lambda: small.metric("millrace_http_connections") == 0, "the handshakes to time out")
    for one in silent:
        one.close()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    kind=st.sampled_from(KINDS),
    encoding=st.sampled_from(["", "identity", "gzip", "zstd"]),
    squeeze=st.booleans(),
    body=st.binary(max_size=300)
    | st.text(alphabet='{}[]":,\n\\ 01e-+.tfnul\ud7ff\x00', max_size=80).map(lambda t: t.encode("utf-8", "replace")),
    boot=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=70),
)
def test_whatever_is_sent_is_answered_and_counted(
    service: HttpService,
    device: Device,
    raw: RawReader,
    kind: str,
    encoding: str,
    squeeze: bool,
    body: bytes,
    boot: str,
) -> None:
    sent = body
    if squeeze and encoding in ("gzip", "zstd"):
        sent = gzip.compress(body) if encoding == "gzip" else zstandard.ZstdCompressor().compress(body)
    answer = device.post(sent, kind, Content_Encoding=encoding, Millrace_Boot=boot)
    assert answer.status in (202, 400, 413, 415)
    before = len(raw.rows())
    if answer.status == 202:
        count = answer.json["messages"]
        rows = raw.wait_for_rows(before + count)[before:]
        assert len(rows) == count
        assert all(row["payload"] in (body if squeeze else sent) for row in rows)
    assert service.alive()
