"""`millrace device` and the registry against a real Kafka."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import NameOID

from cli.device import AUTHORITY, device
from cli.errors import NotInForceError
from identity import revocation
from identity.authority import Authority
from identity.registry.core import RegistryError
from identity.registry.store import DeviceRegistry
from identity.renewal import renew
from runtime.errors import RetryableError
from runtime.kafka import clients, topics
from runtime.kafka.topics import read_control
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY, Device, device_key, token_hash
from schemas.topics import CONTROL
from tests.servers import KafkaServer

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def settings(kafka_fresh: Callable[[], KafkaServer]) -> KafkaSettings:
    found = KafkaSettings(kafka_bootstrap=kafka_fresh().bootstrap)
    topics.ensure(found, topics.plans(2, 1), 1)
    return found


@pytest.fixture
def run(settings: KafkaSettings, tmp_path: Path) -> Run:
    def call(*arguments: str) -> Result:
        environment = {"MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap, "MILLRACE_DATA": str(tmp_path / "data")}
        environment |= {"MILLRACE_WAIT_S": "0"}
        return CliRunner().invoke(device, arguments, env=environment)

    return call


def test_add_prints_a_token_whose_hash_is_recorded(run: Run, settings: KafkaSettings) -> None:
    result = run("add", "add-1", "add-2", "--role", "meter", "--label", "site=north", "--label", "x=a=b")
    assert result.exit_code == 0, result.output
    tokens = dict(line.split() for line in result.stdout.splitlines())
    assert list(tokens) == ["add-1", "add-2"]
    _, value = read_control(settings)[device_key("add-1")]
    found = Device.decode(device_key("add-1"), value)
    assert (found.role, found.labels, found.token) == (
        "meter",
        {"site": "north", "x": "a=b"},
        token_hash(tokens["add-1"]),
    )


def test_list_and_show_never_show_a_hash(run: Run) -> None:
    (told,) = orjson.loads(run("add", "show-1", "--role", "gateway", "--json").stdout)
    run("add", "show-2", "--role", "meter", "--parent", "show-1", "--label", "site=north")
    listed = run("list", "--json").stdout
    found = {d["id"]: d for d in orjson.loads(listed)}
    expected = {"id": "show-2", "role": "meter", "state": "active", "parent": "show-1", "labels": {"site": "north"}}
    assert found["show-2"] == expected | {"http": True}
    shown = run("show", "show-2", "--json").stdout
    assert orjson.loads(shown) == found["show-2"]
    table = run("list").output
    assert "show-2  meter    active  show-1  site=north" in table
    assert "parent   show-1" in run("show", "show-2").output
    for text in (listed, shown, table):
        assert told["token"] not in text and token_hash(told["token"]) not in text


def test_remove_role_and_token_change_what_is_recorded(run: Run, settings: KafkaSettings) -> None:
    first = run("add", "end-1", "--role", "meter").stdout.split()[1]
    assert run("role", "end-1", "--role", "gateway").exit_code == 0
    second = run("token", "end-1").stdout.split()[1]
    found = DeviceRegistry(settings).devices()["end-1"]
    assert first != second and (found.role, found.token) == ("gateway", token_hash(second))
    assert run("remove", "end-1").stdout == "removed 1\n"
    assert DeviceRegistry(settings).devices()["end-1"] == Device("end-1", "gateway", state="removed")
    assert "end-1" not in run("list").output and "end-1" in run("list", "--all").output
    assert run("add", "end-1", "--role", "meter").exit_code == 0


def test_certificates_are_signed_by_the_platforms_authority(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    assert run("add", "cert-1", "--role", "meter", "--cert", str(folder)).exit_code == 0
    certificate = x509.load_pem_x509_certificate((folder / "cert-1.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "cert-1"
    assert stat.S_IMODE((folder / "cert-1.key").stat().st_mode) == 0o600
    again = run("add", "cert-2", "cert-1", "--role", "meter", "--cert", str(folder))
    assert isinstance(again.exception, RegistryError) and "cert-1.key: is there already" in str(again.exception)
    assert "cert-2" not in run("list").output


def _serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def _revoked(tmp_path: Path) -> set[int]:
    file = tmp_path / "data" / AUTHORITY / revocation.CRL
    return {one.serial_number for one in x509.load_pem_x509_crl(file.read_bytes())} if file.exists() else set()


def test_a_renewed_certificate_leaves_the_enrolment_and_the_old_certificate_valid_until_the_enrolment_ends(
    run: Run, settings: KafkaSettings, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("add", "renew-1", "--role", "meter", "--cert", str(first)).exit_code == 0
    before = DeviceRegistry(settings).device("renew-1")
    done = run("renew", "renew-1", "--cert", str(second))
    assert (done.exit_code, done.stdout) == (0, f"renewed 1: {second}\n"), done.output
    assert DeviceRegistry(settings).device("renew-1") == before, "role and token stay"
    old, new = _serial(first / "renew-1.crt"), _serial(second / "renew-1.crt")
    authority = x509.load_pem_x509_certificate((second / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate((second / "renew-1.crt").read_bytes()).verify_directly_issued_by(authority)
    assert stat.S_IMODE((second / "renew-1.key").stat().st_mode) == 0o600
    assert old != new and _revoked(tmp_path) == set()
    assert run("remove", "renew-1").exit_code == 0
    assert _revoked(tmp_path) == {old, new}, "the end of the enrolment ends both"


def test_a_renewal_that_revokes_ends_the_earlier_certificates_only(run: Run, tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(3)]
    assert run("add", "renew-2", "renew-3", "--role", "meter", "--cert", str(folders[0])).exit_code == 0
    assert run("renew", "renew-2", "--cert", str(folders[1])).exit_code == 0
    done = run("renew", "renew-2", "--cert", str(folders[2]), "--revoke")
    assert done.exit_code == 0 and "give it" in done.stderr, "no broker of this machine: what the operator has to do"
    assert _revoked(tmp_path) == {_serial(folder / "renew-2.crt") for folder in folders[:2]}


def test_only_enrolled_devices_are_renewed_and_no_key_is_written_over(run: Run, tmp_path: Path) -> None:
    run("add", "renew-4", "renew-5", "--role", "meter", "--cert", str(tmp_path / "first"))
    run("remove", "renew-5")
    refused = run("renew", "renew-4", "renew-5", "renew-6", "--cert", str(tmp_path / "new")).exception
    assert str(refused) == "renew-5: was removed\nrenew-6: no such device"
    assert list((tmp_path / "new").iterdir()) == []
    again = run("renew", "renew-4", "--cert", str(tmp_path / "first")).exception
    assert "renew-4.key: is there already" in str(again)
    enrolled = str(run("add", "renew-4", "--role", "meter").exception)
    assert "is enrolled already, with role meter; `millrace device renew renew-4 --cert DIR`" in enrolled


class Overtaken(Authority):
    """Somebody ends the enrolment, and enrols the id again, while a certificate is issued."""

    registry: DeviceRegistry
    again: bool

    def issue_client(self, cn: str, days: int = 825) -> tuple[bytes, bytes]:
        self.registry.remove([cn])
        if self.again:
            self.registry.register([Device(cn, "meter")])
        return super().issue_client(cn, days)


@pytest.mark.parametrize(("again", "why"), [(False, "was removed"), (True, "was changed meanwhile")])
def test_an_enrolment_that_ends_meanwhile_gets_no_certificate(
    settings: KafkaSettings, tmp_path: Path, again: bool, why: str
) -> None:
    registry, id = DeviceRegistry(settings), f"overtaken-{again:d}"
    registry.register([Device(id, "meter")])
    authority = Overtaken.open(tmp_path)
    authority.registry, authority.again = registry, again  # type: ignore[attr-defined]
    with pytest.raises(RegistryError, match=why):
        renew(registry, authority, [id])
    assert revocation.revoke(tmp_path, {id}) == [id], "it is noted, so that what ends the next enrolment revokes it"


def test_mistakes_are_told_in_lines_without_a_traceback(settings: KafkaSettings, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "device", "add", "Bad", "a/b", "--role", "meter"],
        env=os.environ | {"MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap, "MILLRACE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"millrace: on the platform of the environment (Kafka {settings.kafka_bootstrap})",
        "millrace: 'Bad': a device id must match [a-z0-9-]{1,64}",
        "millrace: 'a/b': a device id must match [a-z0-9-]{1,64}",
    ]


def test_a_command_says_that_its_change_is_not_in_force_yet(settings: KafkaSettings, tmp_path: Path) -> None:
    environment = {"MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap, "MILLRACE_DATA": str(tmp_path / "data")}
    result = CliRunner().invoke(device, ("add", "later-1", "--role", "meter"), env=environment)
    assert isinstance(result.exception, NotInForceError), "exit code 75"
    assert result.stdout.startswith("later-1 ") and "no relay is running" in str(result.exception)


def test_devices_come_from_a_file_all_or_none(run: Run, settings: KafkaSettings, tmp_path: Path) -> None:
    file = tmp_path / "devices.csv"
    file.write_text("id,role,parent,label.site\ncsv-1,gateway,,north\ncsv-2,,csv-1,\n")
    result = run("add", "--from", str(file), "--role", "meter", "--label", "site=south")
    assert result.exit_code == 0, result.output
    found = DeviceRegistry(settings).devices()
    assert (found["csv-1"].role, found["csv-1"].labels) == ("gateway", {"site": "north"})
    assert (found["csv-2"].role, found["csv-2"].parent, found["csv-2"].labels) == ("meter", "csv-1", {"site": "south"})
    listed = orjson.loads(run("list", "--role", "gateway", "--json").output)
    assert [d["id"] for d in listed if "csv" in d["id"]] == ["csv-1"]
    for text, told in (
        ("id,rolle\nx,y\n", "unknown columns 'rolle'"),
        ("role\nmeter\n", "no column `id`"),
        ("id,role\nx\n", "another number of fields"),
    ):
        file.write_text(text)
        assert told in str(run("add", "--from", str(file), "--role", "meter").exception)
    file.write_bytes(b"id\n\xff\n")
    assert "no CSV in UTF-8" in str(run("add", "--from", str(file), "--role", "meter").exception)
    assert run("add", "--role", "meter").exit_code == 2


def test_labels_need_a_value(run: Run) -> None:
    result = run("add", "a", "--role", "meter", "--label", "north")
    assert result.exit_code == 2 and "expected KEY=VALUE" in result.output


def test_ten_thousand_devices_are_registered_in_seconds_all_or_none(settings: KafkaSettings) -> None:
    registry = DeviceRegistry(settings)
    wanted = [Device(f"many-{i}", "meter") for i in range(10_000)]
    begun_s = time.monotonic()
    tokens = registry.register(wanted)
    assert time.monotonic() - begun_s < 30
    assert len(set(tokens.values())) == 10_000
    with pytest.raises(RegistryError):
        registry.register([Device("many-new", "meter"), Device("many-5", "meter")])
    found = registry.devices()
    assert "many-new" not in found and found["many-9999"].token == token_hash(tokens["many-9999"])


def test_roles_are_those_of_the_policy_in_force(settings: KafkaSettings) -> None:
    producer = clients.producer(settings)
    producer.produce(CONTROL, key=POLICY_KEY, value=b'{"roles":{"meter":{}},"unknown":null}')
    assert producer.flush(10) == 0
    with pytest.raises(RegistryError, match="the policy has no role 'motor'; it has meter"):
        DeviceRegistry(settings).register([Device("role-1", "motor")])
    DeviceRegistry(settings).register([Device("role-1", "meter")])
    producer.produce(CONTROL, key=POLICY_KEY, value=None)
    assert producer.flush(10) == 0


def test_without_kafka_the_error_says_what_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.kafka.log._ANSWER_S", 0.5)
    with pytest.raises(RetryableError, match=r"platform\.control"):
        DeviceRegistry(KafkaSettings(kafka_bootstrap="127.0.0.1:1")).devices()
