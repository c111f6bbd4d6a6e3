"""One authority takes another's place: neighbours in time always meet, and the old is refused at the end."""

import getpass
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from bridge.http.settings import HttpSettings
from identity import rollover
from identity.authority import Authority
from identity.keys import change_authorities, make
from local.engines.mosquitto import Mosquitto
from local.ports import LOOPBACK, free
from local.programs import launch
from runtime.errors import RefusedError
from runtime.kafka import clients
from tests.security.secure import Secure

STEPS = ("trust", "switch", "end")


def _copy(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / file.relative_to(source)).write_bytes(file.read_bytes())
            (target / file.relative_to(source)).chmod(0o600)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of keys: as made first, and after each step."""
    found, folder = [], tmp_path_factory.mktemp("keys")
    make(folder / "now", ("localhost",))
    for name in ("first", *STEPS):
        if name != "first":
            change_authorities(folder / "now", ("localhost",), name)
        _copy(folder / "now", folder / name)
        found.append(folder / name)
    return found


def _client(stage: Path) -> ssl.SSLContext:
    """A client of the broker: as the bridge has it, TLS 1.3 so that a refusal comes with the first read."""
    context = ssl.create_default_context(cafile=str(stage / "bridge" / "ca.crt"))
    context.load_cert_chain(stage / "bridge" / "client.crt", stage / "bridge" / "client.key")
    return context


CONNECT = bytes.fromhex("101300044d5154540502003c00000661" + "2d74657374")
"""MQTT 5: clean start, client id `a-test`; the broker takes the certificate's CN in its place."""


def _mqtt(context: ssl.SSLContext, port: int) -> bool:
    """Whether the broker lets it in. Raises ssl.SSLError, ConnectionError where either does not trust the other."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(CONNECT)
        answer = secure.recv(8)
    if not answer:
        raise ConnectionResetError("closed without an answer")
    return answer[:1] == b"\x20" and answer[3] == 0


@contextmanager
def _broker(stage: Path, folder: Path) -> Iterator[int]:
    """A mosquitto with the certificates of `mosquitto/` of the stage."""
    (port,) = free()
    conf = folder / f"{stage.name}.conf"
    keys = stage / "mosquitto"
    conf.write_text(
        f"user {getpass.getuser()}\nallow_anonymous false\nlistener {port} {LOOPBACK}\ncafile {keys}/ca.crt\n"
        f"certfile {keys}/server.crt\nkeyfile {keys}/server.key\nrequire_certificate true\n"
        "use_identity_as_username true\nuse_username_as_clientid true\n"
    )
    engine = Mosquitto(folder / stage.name, stage / "authority", port, None, "millrace.bridge.0")
    engine.folder.mkdir(exist_ok=True)
    program = replace(engine._program(str(conf)), ready=lambda: _answers(port))
    process = launch(program, folder / f"{stage.name}.log", 20)
    yield port
    process.stop()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def _https(stage: Path) -> Iterator[int]:
    """A door with the TLS that bridge-http makes of its settings."""
    room = stage / "bridge-http"
    settings = HttpSettings(tls_cert_file=room / "server.crt", tls_key_file=room / "server.key")
    context = settings.tls_context()
    assert context is not None
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _greets(stage: Path, port: int) -> None:
    context = ssl.create_default_context(cafile=str(stage / "bridge-http" / "ca.crt"))
    with socket.create_connection((LOOPBACK, port), timeout=10) as plain:
        context.wrap_socket(plain, server_hostname="localhost").close()


def test_a_broker_and_clients_of_neighbouring_steps_meet_and_the_old_is_refused_at_the_end(
    stages: list[Path], tmp_path: Path
) -> None:
    for number, stage in enumerate(stages):
        with _broker(stage, tmp_path) as port:
            for neighbour in stages[max(0, number - 1) : number + 2]:
                assert _mqtt(_client(neighbour), port), f"a client of {neighbour.name} at a broker of {stage.name}"
    with _broker(stages[-1], tmp_path) as port:
        old = _client(stages[0])
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            _mqtt(old, port)  # an old client does not trust the new broker
        old.load_verify_locations(stages[-1] / "bridge" / "ca.crt")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _mqtt(old, port)  # nor the new broker the old client


def test_https_clients_of_neighbouring_steps_trust_the_server(stages: list[Path]) -> None:
    for number, stage in enumerate(stages):
        with _https(stage) as port:
            for neighbour in stages[max(0, number - 1) : number + 2]:
                _greets(neighbour, port)
    with _https(stages[0]) as port, pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        _greets(stages[-1], port)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_kafka_and_clients_of_neighbouring_steps_meet_and_the_old_is_refused_at_the_end(
    stages: list[Path], tmp_path: Path
) -> None:
    kafka = Secure(tmp_path)
    for number, stage in enumerate(stages):
        _copy(stage, kafka.keys)
        kafka.server.start()
        try:
            for neighbour in stages[max(0, number - 1) : number + 2]:
                kafka.keys, own = neighbour, kafka.keys
                try:
                    clients.admin(kafka.settings("init")).list_topics(timeout=15)
                finally:
                    kafka.keys = own
            if number == len(stages) - 1:
                kafka.keys = stages[0]
                with pytest.raises(KafkaException):
                    clients.admin(kafka.settings("init")).list_topics(timeout=5)
        finally:
            kafka.server.stop()


@pytest.mark.parametrize(
    ("before", "name", "told"),
    [((), "switch", "`--authority trust` first"), (("trust", "switch"), "trust", "`--authority end` first")],
)
def test_a_step_out_of_turn_is_refused_and_changes_nothing(
    tmp_path: Path, before: tuple[str, ...], name: str, told: str
) -> None:
    Authority.open(tmp_path)
    for step in before:
        rollover.step(step, tmp_path)
    was = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(RefusedError, match=told):
        rollover.step(name, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == was


def test_a_step_done_twice_is_done_once_and_end_before_a_switch_undoes(tmp_path: Path) -> None:
    first = Authority.open(tmp_path).certificate_pem
    rollover.step("trust", tmp_path)
    both = Authority.open(tmp_path).certificate_pem
    assert both.startswith(first) and both != first
    rollover.step("trust", tmp_path)
    assert Authority.open(tmp_path).certificate_pem == both
    rollover.step("end", tmp_path)
    assert Authority.open(tmp_path).certificate_pem == first
    for step in ("trust", "switch", "switch", "end", "end"):
        rollover.step(step, tmp_path)
    last = Authority.open(tmp_path).certificate_pem
    assert last != first
    assert last.count(b"BEGIN") == 1
    assert not (tmp_path / rollover.NEXT).exists()


def test_a_trust_that_was_cut_off_begins_again(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    rollover.step("trust", tmp_path)
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(
        trusted.read_bytes().partition(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
    )
    with pytest.raises(RefusedError, match="trust"):
        rollover.step("switch", tmp_path)
    for step in STEPS:
        rollover.step(step, tmp_path)
    assert Authority.open(tmp_path).issue_client("sensor-1")
