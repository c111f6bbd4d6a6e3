"""The topics that the sink reads, and how each goes to ClickHouse: one line a topic, one mechanism for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Final

from schemas import aggregates, anomalies, incidents, presence, readings, topics
from sinks.core.derived import TABLES, plan_aggregates, plan_anomalies, plan_incidents, plan_presence
from sinks.core.flow import Range, Reader
from sinks.core.inserts import Insert
from sinks.core.plan import plan_raw, plan_readings
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, Entry, read_derived, read_raw, read_readings, skipped_raw, skipped_readings

Plan = Callable[[Range], list[Insert]]
PATIENCE: Final = 2
"""So much longer than others a range of a derived topic may be while it holds nothing: an insert costs 20 ms of CPU.
`millrace doctor` and the alerts call a sink that has not committed for 30 s behind."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The table with a row for each record of a topic, and its columns that hold epoch and offset in that topic and
    the record's stream time. `shared`: the table holds rows of other topics too, told apart by column `topic`."""

    table: str
    epoch: str
    offset: str
    time: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Log:
    """How a topic goes to ClickHouse.

    `reader` makes a reader of epoch and place, `plan` says which rows of a range go where, `rule` is made of the
    settings' rule, `tables` are filled before the ledger. `timed`: the ledger tells the time of the record before.
    `skipped`, of epoch and record, is what a record that is to be skipped counts for, if for anything; `values` opens
    the value of a record, as far as the sink does.
    """

    topic: str
    reader: Callable[[int, str], Reader]
    plan: Plan
    rule: Callable[[Rule], Rule]
    ledger: Ledger
    tables: tuple[str, ...]
    timed: bool = False
    skipped: Callable[[int, Arrival], Entry | None] = lambda _epoch, _record: None
    values: Callable[[Mapping[str, bytes], bytes], object] = lambda _found, _value: None


def _derived(schema: ModuleType, plan: Plan, rule: Callable[[Rule], Rule]) -> Log:
    name, counts = schema.NAME, getattr(schema, "COUNTS", ())

    def reader(_epoch: int, where: str) -> Reader:
        return partial(read_derived, name, schema.VERSION, counts, where)

    ledger = Ledger("ledger_derived", "epoch", "offset", "time", shared=True)
    return Log(
        name, reader, plan, lambda base: rule(base).patient(PATIENCE), ledger, TABLES[name], True, values=schema.read
    )


def _at_once(base: Rule) -> Rule:
    """Anomalies and incidents are few, and somebody waits for them."""
    return base.at_once()


def _slower(times: int) -> Callable[[Rule], Rule]:
    return lambda base: base.slower(times)


def _logs() -> dict[str, Log]:
    facts = Ledger("ledger_facts", "readings_epoch", "readings_offset", "time")
    received = Ledger("ledger_received", "raw_epoch", "raw_offset", "append_time")
    known = (
        # of telemetry.raw nothing but the ledger waits
        Log(
            topics.RAW,
            lambda epoch, where: partial(read_raw, epoch, where),
            plan_raw,
            _slower(2),
            received,
            (),
            skipped=skipped_raw,
        ),
        Log(
            topics.READINGS,
            lambda _epoch, where: partial(read_readings, where),
            plan_readings,
            lambda base: base,
            facts,
            ("readings", "denied", "dead_letters", "events"),
            skipped=lambda _epoch, record: skipped_readings(record),
            values=readings.read,
        ),
        _derived(aggregates, plan_aggregates, _slower(4)),
        _derived(anomalies, plan_anomalies, _at_once),
        _derived(incidents, plan_incidents, _at_once),
        _derived(presence, plan_presence, _slower(2)),
    )
    return {log.topic: log for log in known}


LOGS: Final = _logs()
