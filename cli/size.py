"""`millrace size`: cores, partitions, brokers, disks and network for a fleet, from measured figures."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
import orjson

from operations.errors import InvalidArgumentError
from operations.figures import size_from
from operations.sizing import ASSUMED, Fleet, Keep, Size


@dataclass(frozen=True, slots=True)
class _Argument:
    default: float | None
    least: float
    doc: str


_ARGUMENTS: Final = {
    "devices": _Argument(None, 1, "Connected devices."),
    "rate": _Argument(0.0167, 1e-6, "Messages/s of a device."),
    "payload": _Argument(80, 1, "Bytes of a message."),
    "readings": _Argument(2.0, 0.1, "Readings of a message."),
    "peak": _Argument(2.0, 1, "Busiest minute over average."),
    "kafka_days": _Argument(7, 1, "Days kept in Kafka."),
    "table_days": _Argument(400, 1, "Days kept in ClickHouse."),
    "copies": _Argument(3, 1, "Copies in Kafka and ClickHouse."),
}


def _arguments(command: Any) -> Any:
    for name, found in reversed(_ARGUMENTS.items()):
        kind = float if isinstance(found.default, float) else int
        given = {"required": True} if found.default is None else {"default": found.default, "show_default": True}
        command = click.option(f"--{name.replace('_', '-')}", type=kind, help=found.doc, **given)(command)
    return command


@click.command("size")
@_arguments
@click.option(
    "--figures",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Lines of `millrace bench --json`, taken on your machine; else those of docs/benchmarks.md.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def size(figures: Path | None, as_json: bool, **given: Any) -> None:
    """Estimate what a fleet needs, from figures of `millrace bench`. Assumptions are listed.

    Example: millrace size --devices 10000000 --rate 0.0167 --payload 120
    """
    _check(given)
    fleet = Fleet(*(given[name] for name in ("devices", "rate", "payload", "readings", "peak")))
    keep = Keep(*(given[name] for name in ("kafka_days", "table_days", "copies")))
    found = size_from(fleet, keep, figures)
    click.echo(_json(found.size, found.origin) if as_json else table(found.size, fleet, found.origin))


def _check(given: dict[str, Any]) -> None:
    """Raises InvalidArgumentError with every argument that is too small."""
    bad = [
        f"--{name.replace('_', '-')} {given[name]}: expected {argument.least:g} or more"
        for name, argument in _ARGUMENTS.items()
        if not argument.least <= given[name] < math.inf
    ]
    if bad:
        raise InvalidArgumentError("\n".join(bad))


def _json(answer: Size, taken: str) -> str:
    more = {"cores": answer.cores, "assumed": ASSUMED, "figures": taken}
    return orjson.dumps(asdict(answer) | more).decode()


def table(answer: Size, fleet: Fleet, taken: str) -> str:
    """For people."""
    rate = fleet.messages_per_s
    lines = [
        f"{rate:,.0f} messages/s, {answer.partitions} partitions, {answer.rows:,.0f} messages a Kafka record",
        "",
        f"{'part':12} {'at least':>8} {'cores':>8}   set by",
        *(f"{part.name:12} {part.instances:8,} {part.cores:8,.1f}   {part.why}" for part in answer.parts),
        f"{'together':12} {'':8} {answer.cores:8,.1f}",
        "",
        f"Kafka's disks       {answer.kafka_disk / 1e12:10,.2f} TB",
        f"ClickHouse's disks  {answer.table_disk / 1e12:10,.2f} TB",
        *(f"{name:19} {rate * 8 / 1e9:10,.2f} Gbit/s at the peak" for name, rate in answer.network.items()),
        *(["", *(f"limit: {line}" for line in answer.limits)] if answer.limits else []),
        "",
        "what costs most: " + ", ".join(
            f"{part.name} {part.cores / answer.cores:.0%}"
            for part in sorted(answer.parts, key=lambda part: -part.cores)[:3]
        ),
        "",
        *(f"assumed: {line}" for line in ASSUMED),
        f"a peak of {fleet.peak:g} times the average; figures: {taken}",
    ]  # fmt: skip
    return "\n".join(lines)
