"""There is one list of stages, schemas.topics.STAGES: what else names them agrees with it."""

import importlib
from pathlib import Path

import pytest

from local.services import SCALABLE, SERVICES
from schemas.topics import STAGES, source_of

ROOT = Path(__file__).parents[2]


def test_services_of_one_machine_and_of_compose_run_every_stage() -> None:
    assert {row.name for row in SERVICES if row.module.startswith("streams.")} == set(STAGES) <= set(SCALABLE)
    compose = (ROOT / "docker-compose.yml").read_text()
    assert [name for name in STAGES if f"\n  {name}:" not in compose] == []


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_the_same_of_itself_as_the_list(name: str) -> None:
    stage = importlib.import_module(f"streams.{name}.app").Stage
    assert (stage.name, stage.source, tuple(stage.outputs)) == (name, source_of(name), STAGES[name])
    assert (ROOT / "streams" / name / "README.md").exists()
