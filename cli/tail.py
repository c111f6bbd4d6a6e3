"""`millrace tail`: what passes through a topic, as lines of JSON."""

import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import click

from cli.context import data_option, settings
from operations import tail as operation
from operations.records import dump
from runtime.settings import KafkaSettings


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="All that Kafka still holds, not only what comes from now on.")
@click.option("-n", "count", type=click.IntRange(1), help="End after so many lines.")
@click.option("--no-follow", is_flag=True, help="End at the topic's end as it is now.")
@click.option("--all", "with_all", is_flag=True, help="Control records and ticks as well as rows.")
@data_option
def tail(topic: str, from_beginning: bool, count: int | None, no_follow: bool, with_all: bool, data: Path) -> None:
    """Print records of TOPIC as lines of JSON: of telemetry.raw and telemetry.readings one line a row.

    Example: millrace tail telemetry.readings -n 10
    """
    out = sys.stdout.buffer
    kafka = settings(KafkaSettings, data)
    found = operation.tail(kafka, topic, from_beginning=from_beginning, follow=not no_follow, with_all=with_all)
    try:
        with closing(found):
            for line in islice(found, count):
                out.write(dump(line) + b"\n")
                out.flush()
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
