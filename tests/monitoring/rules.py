"""The rules that Prometheus loads."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))


def rules(kind: str = "alert") -> list[dict[str, Any]]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]
