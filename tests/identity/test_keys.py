import hashlib
import stat
from pathlib import Path

from cryptography import x509

from identity.authority import Authority
from identity.keys import BRIDGE_CN, make
from schemas.topics import is_device_id


def test_everything_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = make(tmp_path, ("localhost",))
    contents = {name: (tmp_path / name).read_bytes() for name in first}
    assert make(tmp_path, ("localhost",)) == []
    assert {name: (tmp_path / name).read_bytes() for name in first} == contents
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in first} == {0o400}


def test_half_of_a_pair_is_made_anew_with_the_other_half(tmp_path: Path) -> None:
    make(tmp_path, ("localhost",))
    (tmp_path / "sink/sink.password").unlink()
    assert sorted(make(tmp_path, ("localhost",))) == ["clickhouse/sink.xml", "sink/sink.password"]
    digest = hashlib.sha256((tmp_path / "sink/sink.password").read_bytes()).hexdigest()
    assert digest in (tmp_path / "clickhouse/sink.xml").read_text()


def test_no_device_can_be_enrolled_as_the_bridge() -> None:
    assert not is_device_id(BRIDGE_CN)


def test_what_ends_soon_is_renewed_by_the_same_authority_and_nothing_else(tmp_path: Path) -> None:
    made = set(make(tmp_path, ("localhost",)))
    assert make(tmp_path, ("localhost",), renew_days=30) == []
    soon, key = Authority.open(tmp_path / "services").issue_client("millrace.sink", days=20)
    for name, data in (("sink/kafka.crt", soon), ("sink/kafka.key", key)):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(data)
    assert make(tmp_path, ("localhost",)) == []
    assert make(tmp_path, ("localhost",), renew_days=30) == ["sink/kafka.crt", "sink/kafka.key"]
    renewed = x509.load_pem_x509_certificate((tmp_path / "sink/kafka.crt").read_bytes())
    renewed.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "sink/kafka-ca.crt").read_bytes()))
    assert renewed.not_valid_after_utc > x509.load_pem_x509_certificate(soon).not_valid_after_utc
    every = set(make(tmp_path, ("localhost",), renew_days=3_000))
    assert every == {name for name in made if "crt" in name or "key" in name or "pem" in name} - {
        name for name in made if "ca." in name and name != "kafka/ca.pem"
    }
