"""What docker-compose.yml and .env.example promise, read without docker."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from identity.keys import make
from runtime.kafka.rights import RIGHTS
from schemas.topics import STAGES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
OURS = [name for name, service in COMPOSE["services"].items() if service["image"].startswith("millrace:")]


def test_env_example_explains_every_setting_with_its_default() -> None:
    wanted = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", TEXT))
    lines = (ROOT / ".env.example").read_text().splitlines()
    documented = dict(
        line.split("#")[0].strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#")
    )
    assert documented == {name: default for name, default in wanted.items() if name != "MILLRACE_KAFKA_BOOTSTRAP"}


def test_images_are_pinned_by_an_exact_tag() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"[a-z/-]+:(v?\d+\.\d+(\.\d+)?|\$\{MILLRACE_VERSION:-\d+\.\d+\.\d+\})", service["image"]), (
            name
        )


def test_only_device_endpoints_are_open() -> None:
    doors = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert set(doors) == {"mosquitto", "bridge-http", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in doors["grafana"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("mem_limit") and service.get("cpus")
    assert service["logging"]["options"]["max-size"]
    assert name in OURS or service["user"].split(":")[0] not in ("0", "root")


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("keys", "fleet", "monitoring")])
def test_a_service_sees_its_own_keys_and_no_other(name: str) -> None:
    volumes = [volume.split(":") for volume in COMPOSE["services"][name]["volumes"]]
    keys = {source for source, *_ in volumes if source.startswith("keys-")}
    assert keys == {f"keys-{name}"} | ({"keys-authority"} if name == "operator" else set())
    assert all(rest == ["/keys", "ro"] for source, *rest in volumes if source == f"keys-{name}")


def test_every_stage_and_whoever_has_rights_is_a_service() -> None:
    assert set(RIGHTS) <= set(COMPOSE["services"])
    assert set(STAGES) <= set(COMPOSE["services"])


def test_every_folder_of_keys_has_a_volume(tmp_path: Path) -> None:
    make(tmp_path, ("localhost",))
    mounted = {volume.split(":")[1] for volume in COMPOSE["services"]["keys"]["volumes"]}
    assert mounted == {f"/keys/{folder.name}" for folder in tmp_path.iterdir()}
    assert {f"keys-{folder.name}" for folder in tmp_path.iterdir()} <= set(COMPOSE["volumes"])


OVERRIDES = sorted((ROOT / "deploy/compose").glob("*.yml"))


@pytest.mark.parametrize("file", OVERRIDES, ids=[file.stem for file in OVERRIDES])
def test_an_override_names_services_that_are_there_and_files_that_exist(file: Path) -> None:
    services = yaml.load(file.read_text(), _Loader)["services"]
    for name, service in services.items():
        base = service.get("extends", {"file": "docker-compose.yml", "service": name})
        assert base["file"] == "docker-compose.yml"
        assert base["service"] in COMPOSE["services"]
        mounted = [volume.split(":")[0] for volume in service.get("volumes", ()) if volume.startswith("./")]
        assert [path for path in mounted if not (ROOT / path).exists()] == []
        assert "privileged" not in service


@pytest.mark.parametrize("file", OVERRIDES, ids=[file.stem for file in OVERRIDES])
@pytest.mark.skipif(not shutil.which("docker"), reason="docker is not installed")
def test_docker_compose_accepts_the_file_with_the_override(file: Path) -> None:
    argv = ["docker", "compose", "-f", "docker-compose.yml", "-f", str(file.relative_to(ROOT)), "config", "--quiet"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class _Loader(yaml.SafeLoader):
    """Knows compose's own tags."""


for _tag in ("!override", "!reset"):
    _Loader.add_constructor(_tag, lambda loader, node: loader.construct_sequence(node))
