"""Prometheus and Alertmanager for tests: the real ones, with our configuration and short times."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local.ports import LOOPBACK, free
from local.programs import Process, Program, launch

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_DURATION = re.compile(r"(?<![\w.])(\d+)([smhd])\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def shortened(text: str, factor: float) -> str:
    """Durations divided by `factor`, at least a second: `[5m] offset 4m` → `[30s] offset 24s`."""
    return _DURATION.sub(lambda d: f"{max(1, round(int(d[1]) * _SECONDS[d[2]] / factor))}s", text)


def shortened_rules(file: Path, factor: float) -> str:
    """A file of rules as it is but for its times."""
    found = yaml.safe_load(file.read_text())
    for rule in (rule for group in found["groups"] for rule in group["rules"]):
        rule["expr"] = shortened(rule["expr"], factor)
        if "for" in rule:
            rule["for"] = shortened(rule["for"], factor)
    return yaml.safe_dump(found, sort_keys=False)


class _Server:
    """A program that answers on `url`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self.port = free()[0]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.process: Process | None = None

    def _launch(self, *argv: str) -> None:
        program = shutil.which(argv[0]) or argv[0]
        made = Program(self.name, (program, *argv[1:]), self._ready)
        self.process = launch(made, self.folder / f"{self.name}.log", 30)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None


class Prometheus(_Server):
    """Scrapes the targets of `targets` (a file for file_sd) every two seconds."""

    def __init__(self, folder: Path, targets: Path, alertmanager: str | None = None, factor: float = 10) -> None:
        super().__init__(folder, "prometheus")
        for file in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
            (folder / f"rules-{file.name}").write_text(shortened_rules(file, factor))
        found = yaml.safe_load((DEPLOY / "prometheus" / "local.yml").read_text())
        found["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
        found["rule_files"] = ["rules-*.yml"]
        found["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(targets)]
        where = [] if alertmanager is None else [alertmanager.removeprefix("http://")]
        found["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = where
        (folder / "prometheus.yml").write_text(yaml.safe_dump(found))

    def start(self) -> None:
        self._launch(
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--log.level=warn",
        )

    def firing(self) -> list[dict[str, Any]]:
        """Labels and annotations of the alerts that fire, the watchdog left out."""
        found = self.ask("/api/v1/alerts")["data"]["alerts"]
        alerts = [alert for alert in found if alert["state"] == "firing"]
        return [alert for alert in alerts if alert["labels"]["alertname"] != "Watchdog"]

    def value(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        found = self.ask("/api/v1/query?" + urllib.parse.urlencode({"query": query}))["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]


class Alertmanager(_Server):
    """With our routes and inhibitions; `configuration` is that of deploy/alertmanager unless another is given."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any] | None = None) -> None:
        super().__init__(folder, "alertmanager")
        found = configuration or yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
        self.file = folder / "alertmanager.yml"
        self.file.write_text(yaml.safe_dump(found, sort_keys=False))

    def start(self) -> None:
        self._launch(
            "prometheus-alertmanager" if shutil.which("prometheus-alertmanager") else "alertmanager",
            f"--config.file={self.file}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        )

    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("/api/v2/alerts")
        return found

    def post(self, alerts: list[dict[str, Any]]) -> None:
        self.ask("/api/v2/alerts", alerts)

    def receivers(self, **labels: str) -> list[str]:
        """Whom an alert with these labels goes to, as amtool says."""
        words = [f"{name}={value}" for name, value in labels.items()]
        argv = ["amtool", "config", "routes", "test", f"--config.file={self.file}", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
