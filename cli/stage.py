"""`millrace stage`: what is stored of a stage, and orders to step over a record or to start a partition again."""

import getpass
from pathlib import Path

import click
import orjson

from cli.context import changes, data_option, settings
from operations import stages
from runtime.settings import KafkaSettings
from schemas.skips import FROM_OLDEST, SKIP_LOST
from schemas.topics import DERIVED, STAGES

_name = click.argument("name", type=click.Choice(list(STAGES)), metavar="NAME")
_reason = click.option("--reason", required=True, help="Why; it is stored with the order and shown in dead letters.")


@click.group()
def stage() -> None:
    """Look into a stage, skip a record that it cannot read, or reset it.

    Example: millrace stage inspect access --partition 3
    """


@stage.command()
@_name
@click.option("--partition", type=click.IntRange(min=0), help="Only this one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a partition.")
@data_option
def inspect(name: str, partition: int | None, as_json: bool, data: Path) -> None:
    """Snapshots, offsets and orders of each partition; every stored digest is verified. Exit code 1 if one is damaged.

    Example: millrace stage inspect aggregate --json
    """
    damaged = False
    for found in stages.inspect(settings(KafkaSettings, data), name, partition):
        click.echo(orjson.dumps(found.as_json()) if as_json else _text(found))
        damaged |= bool(found.error) and found.error != stages.NO_SNAPSHOT
    if damaged:
        raise click.exceptions.Exit(1)


def _text(found: stages.Inspected) -> str:
    lines = [
        f"{found.stage} partition {found.partition}: {found.source} {found.low} to {found.end}, snapshot at"
        f" {found.position}, committed {found.committed}, {found.lag} records behind"
    ]
    if found.error:
        lines.append(f"  snapshot: {found.error}")
    else:
        lines.append(
            f"  snapshot: logic version {found.logic_version}, raw offset {found.raw_offset} of epoch"
            f" {found.raw_epoch}, manifest at offset {found.manifest}, {found.chunks} chunks of {found.bytes}"
            " bytes, digests verified"
        )
    lines += [f"  output {out.topic}: written to {out.written}, ends at {out.end}" for out in found.outputs]
    lines += [f"  skips offset {offset}" for offset in found.skips]
    return "\n".join([*lines, f"  reset: {found.reset}"] if found.reset else lines)


@stage.command()
@click.argument("name", type=click.Choice([*STAGES, *DERIVED]), metavar="NAME")
@click.option("--partition", type=click.IntRange(min=0), required=True)
@click.option("--offset", type=click.IntRange(min=0), required=True, help="Of the record, in the stage's source topic.")
@_reason
@data_option
@changes
def skip(name: str, partition: int, offset: int, reason: str, data: Path) -> None:
    """Step over one record that the stage cannot read. Its rows, as many as its headers declare, become dead letters
    with the reason `skipped`, so the ledger closes. The sink steps over the record, too.

    NAME is the stage, or a topic of which only the sink cannot read a record, such as telemetry.aggregates.

    The order is refused where a worker has applied the record already.

    Example: millrace stage skip access --partition 3 --offset 1200 --reason "written by hand"
    """
    found = stages.skip(settings(KafkaSettings, data), name, partition, offset, reason, getpass.getuser())
    click.echo(f"{found.key} is stored: {found.rows} messages become dead letters")
    services = "sink" if name in DERIVED else f"{name} sink"
    click.echo(f"start what has stopped for it: `millrace restart {services}`")


@stage.command()
@_name
@click.option("--from-oldest", "mode", flag_value=FROM_OLDEST, help="Empty state, at the oldest record kept.")
@click.option("--skip-lost", "mode", flag_value=SKIP_LOST, help="Keep the state, accept that records are missing.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this one.")
@_reason
@data_option
@changes
def reset(name: str, mode: str | None, partition: int | None, reason: str, data: Path) -> None:
    """Let a stage start that refuses to: the next start of each partition forgets its snapshots, or accepts a loss.

    It counts once: when the partition has stored a snapshot after it, the order is done.

    Example: millrace stage reset aggregate --from-oldest --reason "topic re-created"
    """
    if mode is None:
        raise click.UsageError("one of --from-oldest and --skip-lost is needed")
    done = stages.reset(settings(KafkaSettings, data), name, mode, reason, partition, getpass.getuser())
    click.echo(f"{name}: {mode} is stored for {len(done)} partitions")
    click.echo(f"start it again: `millrace restart {name}`")
