"""What was answered with 202 is in Kafka, whatever is killed; what cannot be taken is refused in time and in bounds."""

import json
import os
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from identity.authority import Authority
from identity.registry.store import DeviceRegistry
from tests.bridge.http.client import NDJSON, Answer, Device, read_all, status_of
from tests.bridge.http.conftest import HttpService, Make
from tests.bridge.processes import wait
from tests.bridge.raw_reader import RawReader
from tests.servers import KafkaServer

Enrol = Callable[[HttpService], Device]


def test_an_ended_token_is_refused_within_a_second(
    service: HttpService, registry: DeviceRegistry, enrol: Enrol
) -> None:
    device, renewed = enrol(service), enrol(service)
    assert device.post(b"{}").status == renewed.post(b"{}").status == 202
    registry.remove([device.name])
    ended_s = time.monotonic()
    wait(lambda: device.post(b"{}").status == 401, "401 for the removed device", 1.0)
    token = registry.renew([renewed.name])[renewed.name]
    wait(lambda: renewed.post(b"{}").status == 401, "401 for the old token", 1.0)
    renewed.token = token
    assert renewed.post(b"{}").status == 202
    assert time.monotonic() - ended_s < 5


def test_the_answer_comes_after_kafka_and_kill_9_loses_nothing(make: Make, enrol: Enrol, raw: RawReader) -> None:
    service = make()
    devices = [enrol(service) for _ in range(4)]
    acknowledged: list[list[int]] = [[] for _ in devices]

    def send(device: Device, mine: list[int]) -> None:
        try:
            for first in range(0, 100_000, 10):
                body = b"\n".join(b'{"n":%d}' % n for n in range(first, first + 10))
                if device.post(body, NDJSON).status == 202:
                    mine.extend(range(first, first + 10))
        except OSError:
            pass

    threads = [threading.Thread(target=send, args=pair) for pair in zip(devices, acknowledged, strict=True)]
    for thread in threads:
        thread.start()
    wait(lambda: all(len(mine) > 50 for mine in acknowledged), "answers")
    service.kill()
    for thread in threads:
        thread.join(30)
    raw.wait_for_rows(sum(map(len, acknowledged)))
    raw.settle()
    stored = {(row["device"], json.loads(row["payload"])["n"]) for row in raw.rows()}
    promised = {(device.name, n) for device, mine in zip(devices, acknowledged, strict=True) for n in mine}
    assert len(promised) > 200 and promised <= stored


@contextmanager
def _suspended(kafka: KafkaServer) -> Iterator[None]:
    assert kafka.process is not None
    os.kill(kafka.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.process.pid, signal.SIGCONT)


def test_a_silent_kafka_means_503_in_bounded_memory_and_then_all_is_well(
    spine: KafkaServer, make: Make, enrol: Enrol
) -> None:
    service = make(
        budget_bytes=2 << 20, ack_timeout_s=1, stall_s=1.5, device_requests=100, max_body_bytes=1 << 20, linger_ms=20
    )
    devices = [enrol(service) for _ in range(8)]
    assert all(device.post(b"{}").status == 202 for device in devices)
    body = b"\n".join(b'{"filler":"%s"}' % (b"x" * 1_000) for _ in range(200))
    before_mb = service.rss_mb()
    answers: list[Answer] = []
    until_s = time.monotonic() + 3

    def send(device: Device) -> None:
        while time.monotonic() < until_s:
            answers.append(device.post(body, NDJSON))

    with _suspended(spine):
        threads = [threading.Thread(target=send, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert len(answers) > 100, "most are refused at once"
        assert {answer.json["error"].split(";")[0] for answer in answers} >= {
            "Kafka has not acknowledged in time",
            "Kafka does not answer",
        }
        assert service.metric("millrace_bridge_held_bytes") <= 3 << 20
        assert service.rss_mb() - before_mb < 50
    wait(lambda: devices[0].post(b"{}").status == 202, "recovery", 40)
    assert all(device.post(b"{}").status == 202 for device in devices)


def test_sigterm_answers_what_is_in_flight_and_takes_nothing_new(make: Make, enrol: Enrol, raw: RawReader) -> None:
    service = make(linger_ms=400, body_timeout_s=20)
    device = enrol(service)
    head = device.head("Content-Type: application/json", "Content-Length: 2").replace("\n", "\r\n").encode()
    with device.connect() as sock:
        sock.sendall(head + b"\r\n\r\n{")
        wait(lambda: service.metric("millrace_http_reading_bytes") == 1, "the body to begin")
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        wait(lambda: not _listens(device.port), "the listener to close")
        sock.sendall(b"}")
        assert status_of(read_all(sock)) == 202
    assert service.process.wait(20) == 0
    assert len(raw.wait_for_rows(1)) == 1


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_devices_are_served_over_tls(make: Make, enrol: Enrol, tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    certificate, key = authority.issue_server(["127.0.0.1"])
    (tmp_path / "server.crt").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    service = make(tls_cert_file=tmp_path / "server.crt", tls_key_file=tmp_path / "server.key")
    device = enrol(service)
    request = urllib.request.Request(
        f"https://127.0.0.1:{service.listen}{device.path()}",
        data=b"{}",
        headers={"Authorization": f"Bearer {device.token}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        assert answer.status == 202


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"listen": "8080"}, "MILLRACE_LISTEN='8080': expected host:port"),
        ({"tls_cert_file": "/nowhere.crt"}, "MILLRACE_TLS_CERT_FILE"),
    ],
)
def test_bad_settings_end_the_process_with_one_clear_line(
    spine: KafkaServer, tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, str], named: str
) -> None:
    service = HttpService(spine, tmp_path_factory)
    service.environment |= {f"MILLRACE_{key.upper()}": value for key, value in wrong.items()}
    service.start(ready=False)
    assert service.process is not None and service.process.wait(20) == 64
    assert named in service.log.read_text() and "Traceback" not in service.log.read_text()
