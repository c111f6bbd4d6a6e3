"""Addresses in settings: what is accepted, what is refused, and with which words."""

import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from runtime.addresses import Address, Listen
from runtime.errors import EXIT_FATAL, EXIT_SETTINGS, FatalError
from runtime.probes import Probes
from runtime.settings import ServiceSettings, SettingsError, load

SERVICES = (
    "bridge.http", "bridge.mqtt", "control.relay", "monitoring.notify", "monitoring.watch", "sinks",
    "streams.access", "streams.aggregate", "streams.anomaly", "streams.presence",
)  # fmt: skip
has_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")


def answers(probes: Probes, host: str) -> bool:
    with urllib.request.urlopen(f"http://{host}:{probes.port}/metrics", timeout=5) as answer:
        return bool(answer.status == 200)


@pytest.mark.parametrize(
    ("bind", "reached_at"),
    [
        ("127.0.0.1:0", ("127.0.0.1",)),
        (":0", ("127.0.0.1",)),
        ("localhost:0", ("localhost",)),
        ("0.0.0.0:0", ("127.0.0.1",)),
        pytest.param("[::1]:0", ("[::1]",), marks=has_ipv6),
        pytest.param("[::]:0", ("[::1]", "127.0.0.1"), marks=has_ipv6),
        pytest.param("*:0", ("[::1]", "127.0.0.1"), marks=has_ipv6),
    ],
)
def test_ipv6_every_address_and_names_are_listened_on(bind: str, reached_at: tuple[str, ...]) -> None:
    probes = Probes(load(ServiceSettings, {"MILLRACE_HTTP_BIND": bind}).http_bind)
    probes.start()
    try:
        assert all(answers(probes, host) for host in reached_at)
    finally:
        probes.stop()


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("::1", "write an IPv6 address in brackets"),
        ("::", "expected host:port"),
        ("::1:9100", "as in [::1]:9100"),
        ("[::1]", "expected host:port"),
        ("9100", "expected host:port"),
        ("host:", "expected host:port"),
        ("127.0.0.1:65536", "a port is at most 65535"),
        ("127.0.0.1:-1", "expected host:port"),
        ("127.0.0.1:http", "expected host:port"),
        ("no-such-host.invalid:9100", "not an address or name of this machine"),
        ("", "expected host:port"),
    ],
)
def test_a_bind_address_that_is_none_is_a_mistake_and_no_traceback(bind: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings, {"MILLRACE_HTTP_BIND": bind})
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"MILLRACE_HTTP_BIND={bind!r}: ")
    assert words in mistake


def test_an_address_in_use_is_one_line_that_names_it() -> None:
    with Listen("127.0.0.1:0").open() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FatalError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            Listen(f"127.0.0.1:{port}").open()


@pytest.mark.parametrize("text", ["", ":80", "host", "host:0", "*:80", "host:99999", "::1:80"])
def test_an_address_to_connect_to_needs_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ValueError):
        Address(text)


def test_an_ipv6_server_can_be_connected_to() -> None:
    found = Address("[fe80::1]:8443")
    assert (found.host, found.port, str(found)) == ("fe80::1", 8443, "[fe80::1]:8443")
    assert str(Address.at("fe80::1", 8443)) == "[fe80::1]:8443"


def run(service: str, bind: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "MILLRACE_NOTIFY_STATE": "/nonexistent/told.json",
        "MILLRACE_HTTP_BIND": bind,
    }
    argv = [sys.executable, "-m", service]
    return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_ends_in_a_traceback_for_its_bind_address(service: str) -> None:
    wrong = run(service, "::1")
    assert wrong.returncode == EXIT_SETTINGS, wrong.stderr
    assert "settings: MILLRACE_HTTP_BIND='::1': " in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("service", ["sinks", "monitoring.watch", "streams.access"])
def test_no_service_ends_in_a_traceback_when_its_bind_address_is_taken(service: str) -> None:
    with Listen("127.0.0.1:0").open() as taken:
        ended = run(service, f"127.0.0.1:{taken.getsockname()[1]}")
    assert ended.returncode == EXIT_FATAL, ended.stderr
    assert "cannot listen on 127.0.0.1:" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
