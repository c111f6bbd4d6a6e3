"""What a running platform really exposes: families by name with their labels and the values seen."""

import json
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


@dataclass
class Exposed:
    """`labels`: metric → label → values. A family that has no series yet has no labels here."""

    names: set[str] = field(default_factory=set)
    labels: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    def take(self, page: str, service: str) -> None:
        for family in text_string_to_metric_families(page):
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            self.names |= {family.name + suffix for suffix in suffixes}
            for sample in family.samples:
                self.names.add(sample.name)
                for label, value in {**sample.labels, "service": service}.items():
                    self.labels[sample.name][label].add(value)


def of(data: Path) -> Exposed:
    """By the pages of every service of the platform on `data`."""
    found = Exposed()
    for target in json.loads((data / "run" / "targets.json").read_text()):
        with urllib.request.urlopen(f"http://{target['targets'][0]}/metrics", timeout=10) as answer:
            found.take(answer.read().decode(), target["labels"]["service"])
    return found
