"""What is right and what is wrong. Pure: facts in, findings out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from operations.correct.phases import Correction
from runtime.kafka.topics import Plan

CLOCK_WRONG_S: Final = 5.0
"""The relay withholds ticks that are further off Kafka's clock."""
TICK_LATE_S: Final = 10.0
CERTIFICATE_SOON_DAYS: Final = 30.0
DISK_LOW: Final = 0.15
DISK_FULL: Final = 0.05
LAG_S: Final = 30.0
_COMMAND: Final = re.compile(r"`millrace [^`]+`")
"""What a service that stays down names as its way out: a record to step over, a stage to reset."""
_SETTINGS: Final = ("cleanup.policy", "message.timestamp.type", "max.message.bytes", "min.insync.replicas")
"""Of a topic: those on which a promise rests."""


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was found and, unless all is well, what to `do`."""

    check: str
    level: Level
    what: str
    do: str = ""


def certificate(where: str, days_left: float) -> Finding:
    """`days_left` until it ends."""
    do = "make a new one: docs/security.md, Changing them"
    if days_left <= 0:
        return Finding("certificates", Level.WRONG, f"{where}: ended {-days_left:.0f} days ago", do)
    level = Level.WARN if days_left < CERTIFICATE_SOON_DAYS else Level.OK
    return Finding("certificates", level, f"{where}: {days_left:.0f} days left", do if level is Level.WARN else "")


def clock(off_s: float, whose: str) -> Finding:
    """`off_s`: how far this machine's clock is from `whose`."""
    if abs(off_s) <= CLOCK_WRONG_S:
        return Finding("clock", Level.OK, f"{abs(off_s):.1f} s off {whose}")
    do = "set the clocks (chrony, systemd-timesyncd): ticks that far off are withheld and windows stay open"
    return Finding("clock", Level.WRONG, f"this machine is {off_s:+.1f} s off {whose}", do)


def tick(age_s: float | None) -> Finding:
    """`age_s` of the youngest tick in telemetry.raw; None: there is none."""
    if age_s is not None and age_s <= TICK_LATE_S:
        return Finding("time", Level.OK, f"last tick {age_s:.1f} s ago")
    what = "there is no tick in telemetry.raw" if age_s is None else f"the last tick is {age_s:.0f} s old"
    return Finding("time", Level.WRONG, what, "look at the relay (docs/runbooks/TimeStandsStill.md)")


def disk(where: str, free_bytes: int, total_bytes: int) -> Finding:
    share = free_bytes / max(1, total_bytes)
    what = f"{where}: {free_bytes / 2**30:,.1f} GiB free of {total_bytes / 2**30:,.1f} ({share:.0%})"
    level = Level.WRONG if share < DISK_FULL else Level.WARN if share < DISK_LOW else Level.OK
    return Finding("disk", level, what, "" if level is Level.OK else "make room: docs/runbooks/DiskFilling.md")


def confinement(in_reach: str, readers_served: bool) -> Finding:
    """Of the local ClickHouse. `in_reach`: what the kernel does not keep from its engine, empty where all is well."""
    if not in_reach:
        return Finding("confinement", Level.OK, "the local ClickHouse's engine reaches its own data only")
    lost = "those of users who only read, too" if readers_served else "users who only read (analyst) are not served"
    what = f"the kernel does not confine the local ClickHouse: its users' statements can reach {in_reach}; {lost}"
    do = "switch on Landlock (Linux 5.19 or later, best 6.7): docs/security.md, Confinement"
    return Finding("confinement", Level.WARN, what, do)


def unfinished(restore: str | None, correction: tuple[Correction, str] | None) -> Iterator[Finding]:
    """`restore`: the backup whose restore broke off; `correction`: the one that broke off, and its phase."""
    if restore is not None:
        do = "run the same `millrace restore` again, before any service starts: docs/operations/backup.md"
        yield Finding("operations", Level.WRONG, f"the restore of the backup of {restore} is not finished", do)
    if correction is not None:
        name, phase = correction[0].correction, correction[1]
        do = "if none runs, `millrace correct` again: it undoes or finishes it first (docs/operations/correct.md)"
        yield Finding("operations", Level.WARN, f"the correction of {name} is not finished: phase {phase}", do)


def lag(group: str, records: int, seconds: float) -> Finding:
    """`seconds` between the oldest record not done and the youngest one."""
    what = f"{group}: {records:,} records behind"
    if seconds <= LAG_S:
        return Finding("lag", Level.OK, what)
    do = f"look at its log and metrics (docs/runbooks/{'SinkLagging' if 'sink' in group else 'StageLagging'}.md)"
    return Finding("lag", Level.WRONG, f"{what}, {seconds:,.0f} s", do)


def topic(
    plan: Plan, registered: tuple[str, int] | None, live: tuple[str, int] | None, config: Mapping[str, str]
) -> Iterator[Finding]:
    """A topic as it must be; `registered` in platform.control and `live` in Kafka are (topic id, partitions)."""
    if live is None or registered is None:
        yield Finding("topics", Level.WRONG, f"{plan.name} is not there", "run `millrace init`")
        return
    if live[0] != registered[0]:
        do = "restore the old topic, or run `millrace init` to register the new one (an epoch of its own)"
        yield Finding("topics", Level.WRONG, f"{plan.name} was deleted and created again without the platform", do)
    if live[1] != registered[1]:
        what = f"{plan.name} has {live[1]} partitions, registered are {registered[1]}"
        yield Finding("topics", Level.WRONG, what, "partitions are fixed for a topic's life: services stop")
    for name in _SETTINGS:
        if name in plan.config and name in config and config[name] != plan.config[name]:
            level = Level.WARN if name == "min.insync.replicas" else Level.WRONG
            what = f"{plan.name}: {name} is {config[name]}, wanted {plan.config[name]}"
            yield Finding("topics", level, what, f"set it: kafka-configs --alter --entity-name {plan.name}")


def ledger(totals: Mapping[str, Mapping[str, int]]) -> Finding:
    wrong = {name: section["difference"] for name, section in totals.items() if section["difference"]}
    if not wrong:
        counts = ", ".join(f"{name} {next(iter(section.values())):,}" for name, section in totals.items())
        return Finding("ledger", Level.OK, f"difference 0 ({counts})")
    what = ", ".join(f"{name}: difference {number:,}" for name, number in wrong.items())
    return Finding("ledger", Level.WRONG, what, "`millrace ledger verify` says where")


def services(
    described: Sequence[Mapping[str, object]], logs: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Finding]:
    """`described`: the services of `millrace status --json`; `logs`: the last lines of those that do not run."""
    bad = [s for s in described if s["state"] not in ("running", "done")]
    for service in bad:
        why = str(service.get("why", ""))
        what = f"{service['name']} is {service['state']} {why}".strip()
        commands = _COMMAND.findall(f"{why}\n{logs.get(str(service['name']), '')}")
        do = commands[-1] if commands else f"read DATA/logs/{service['name']}.log"
        yield Finding("services", Level.WRONG, what, do)
    if not bad:
        yield Finding("services", Level.OK, f"{len(described)} run")


def full_disks(disks: Sequence[Mapping[str, object]]) -> Iterator[Finding]:
    """`disks`: those of `millrace status --json`."""
    for disk in disks:
        if disk["full_since"] is not None:
            free, size = int(str(disk["free_bytes"])), int(str(disk["size_bytes"]))
            room = f"{free / 2**20:,.1f} MiB free of {size / 2**20:,.1f}"
            what = f"the disk of {disk['path']} is full since {disk['full_since']}: {room}"
            yield Finding("disk", Level.WRONG, what, "make room: docs/operations/disk-full.md")


def worst(findings: Sequence[Finding]) -> Level:
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
