"""`millrace fleet`: simulated devices, and recorded measurements, over the same endpoints as real devices."""

import ssl
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
import orjson
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cli.context import changes, data_option, settings
from local.fleet import enrol, faults, replay, series, simulate
from local.fleet.connections import Endpoints, FleetError
from local.fleet.plan import Plan, Workload
from local.fleet.settings import FleetSettings
from operations.replayed import Stored
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from schemas.control import Device
from schemas.vocabulary import Role


@dataclass(frozen=True)
class _ReplaySettings(FleetSettings, ClickHouseSettings):
    """The fleet's, and where what it sent is looked for."""


CERTIFICATES: Final = "fleet"
"""Folder below DATA for the keys of the fleet's devices."""
_json = click.option("--json", "as_json", is_flag=True, help="The report as one line of JSON.")


@click.group()
def fleet() -> None:
    """A simulated fleet, and replayed files, through real MQTT and HTTP.

    Example: millrace fleet simulate --devices 1000 --rate 2000 --seconds 60
    """


@fleet.command("simulate")
@click.option("--devices", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Connections.")
@click.option("--rate", type=click.FloatRange(0.1), default=1000.0, show_default=True, help="Messages a second, all.")
@click.option("--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same fleet and faults.")
@click.option("--speed", type=click.FloatRange(0.001), default=1.0, show_default=True, help="Of the devices' clocks.")
@click.option("--truth", type=click.Path(path_type=Path, dir_okay=False), help="Write the faults' labels here (JSONL).")
@_json
@data_option
@changes
def simulate_(
    devices: int, rate: float, seconds: float, seed: int, speed: float, truth: Path | None, as_json: bool, data: Path
) -> None:
    """Run climate sensors, motors, meters and gateways, with known numbers of messages that must be refused.

    Ends when every message is acknowledged, and prints what must now be found. With --speed 60 the devices' clocks run
    an hour a minute, so that a short run shows a day; their clocks end at now.

    Example: millrace fleet simulate --devices 1000 --rate 2000 --seconds 60 --seed 7 --truth truth.jsonl
    """
    plan = Plan(workload(devices, rate, seconds, seed, speed))
    if truth is not None:
        truth.write_bytes(b"".join(map(faults.encode, plan.labels())))
    report = run(plan, data, quiet=as_json)
    click.echo(orjson.dumps(report.json()).decode() if as_json else table(report))
    if not report.complete:
        raise FleetError(f"not all of the plan was sent: {report.last_error or report.sent}")


def workload(devices: int, rate: float, seconds: float, seed: int, speed: float) -> Workload:
    """A run that starts now. Boot numbers are the time in seconds: above those of every earlier run."""
    now_s = time.time()
    start_ms = int((now_s + seconds - seconds * speed) * 1000) if speed > 1 else int(now_s * 1000)
    return Workload(devices, rate, seconds, seed, int(now_s), start_ms, speed)


def run(plan: Plan, data: Path, quiet: bool = False) -> simulate.Report:
    """Register the plan's devices and run it, with a progress bar on standard error."""
    endpoints, tokens = enrolled(plan, data)
    with progress_bar(quiet) as bar:
        connecting = bar.add_task("connect", total=sum(not m.http for m in plan.population.members))
        sending = bar.add_task("send", total=plan.workload.messages)
        progress = simulate.Progress(
            lambda count: bar.update(connecting, completed=count), lambda count: bar.update(sending, completed=count)
        )
        return uvloop.run(simulate.simulate(plan, endpoints, tokens, progress))


def progress_bar(quiet: bool = False) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True, quiet=quiet))


def enrolled(plan: Plan, data: Path) -> tuple[Endpoints, dict[str, str]]:
    """Where the plan's devices connect, and the tokens of those with HTTP; all are registered."""
    found = settings(FleetSettings, data)
    endpoints = endpoints_of(found, data, [m.id for m in plan.population.members if not m.http])
    everybody = [Device(m.id, m.kind.role, parent=m.parent) for m in plan.population.everybody]
    by_http = [m.id for m in plan.population.members if m.http]
    tokens = enrol.register(found, everybody, by_http)
    return endpoints, {name: tokens[name] for name in by_http}


def endpoints_of(found: FleetSettings, data: Path, by_mqtt: list[str]) -> Endpoints:
    """The listener without TLS where there is one, else the one with certificates. Raises FleetError."""
    http_tls = None
    if (found.device_http_url or "").startswith("https"):
        http_tls = ssl.create_default_context(cafile=found.ca_file)
    if found.device_mqtt_url:
        return Endpoints(found.device_mqtt_url, {}, found.device_http_url or "", http_tls)
    if not found.device_mqtts_url or found.ca_file is None:
        raise FleetError(
            "no platform is named: start one with `millrace up`, or set MILLRACE_DEVICE_MQTTS_URL and MILLRACE_CA_FILE"
        )
    contexts = enrol.tls_contexts(found.ca_file, data / CERTIFICATES, by_mqtt)
    return Endpoints(found.device_mqtts_url, contexts, found.device_http_url or "", http_tls)


def table(report: simulate.Report) -> str:
    """The report for people."""
    expected = report.expected
    lines = [f"{'':14}{'expected':>12}{'sent':>12}"]
    lines += [f"{name:14}{getattr(expected, name):12,}{count:12,}" for name, count in report.sent.items()]
    lines += [
        f"{'messages':14}{expected.messages:12,}{sum(report.sent.values()):12,}",
        f"{'readings':14}{expected.readings:12,}",
        f"{expected.messages / report.send_s:,.0f} msg/s for {report.send_s:.1f} s; all acknowledged"
        f" {report.drain_s:.1f} s later; {report.cpu_us:.1f} µs CPU a message; {report.connects:,} connects"
        f" ({expected.reboots} reboots); sent again after a break: {report.resent:,}",
    ]
    if report.behind_s > 1:
        lines.append(f"the fleet was up to {report.behind_s:.1f} s behind its plan")
    return "\n".join(lines)


class _Speed(click.ParamType):
    """`max`, or a factor."""

    name = "max|FACTOR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or value == "max":
            return None
        try:
            found = float(str(value))
        except ValueError:
            found = 0.0
        if not 0 < found < float("inf"):
            self.fail(f"{value!r} is neither `max` nor a factor such as 60", param, ctx)
        return found


@fleet.command("replay")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.csv|DIR…")
@click.option("--speed", type=_Speed(), help="How many times as fast as it happened; `max` (the default): at once.")
@_json
@data_option
@changes
def replay_(paths: tuple[Path, ...], speed: float | None, as_json: bool, data: Path) -> None:
    """Send files of timestamp,value as devices, one a file, named after its path; role `history`, metric `value`.

    Ends when ClickHouse holds every row exactly once and what it holds equals the files, value by value.

    Example: millrace fleet replay measurements/ --speed 3600
    """
    found = series.find(paths)
    names = series.device_ids(name for _, name in found)
    everything = [series.read(file, name) for (file, _), name in zip(found, names, strict=True)]
    servers = settings(_ReplaySettings, data)
    endpoints = endpoints_of(servers, data, names)
    enrol.register(servers, [Device(name, Role.HISTORY) for name in names])
    db = ClickHouse(servers)
    try:
        with progress_bar(quiet=as_json) as bar:
            rows = bar.add_task("stored", total=sum(len(one.rows) for one in everything))
            outcome = uvloop.run(
                replay.replay(
                    everything,
                    int(time.time()),
                    speed,
                    endpoints,
                    Stored(db, names),
                    lambda count: bar.update(rows, completed=count),
                )
            )
    finally:
        db.close()
    click.echo(orjson.dumps(asdict(outcome)).decode() if as_json else _told(outcome))


def _told(outcome: replay.Outcome) -> str:
    skipped = f" ({outcome.skipped:,} rows without a value were left out)" if outcome.skipped else ""
    return (
        f"{outcome.files} files, {outcome.rows:,} rows{skipped}: all stored exactly once and equal to the files."
        f" {outcome.messages:,} messages, acknowledged by Kafka after {outcome.send_s:.1f} s, stored and compared after"
        f" {outcome.total_s:.1f} s"
    )
