"""`millrace tail`: what passes through a topic, as lines of JSON."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from cli.context import data_option, settings
from operations.reader import Reader
from operations.records import dump, lines
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
    try:
        with Reader(settings(KafkaSettings, data), topic) as reader:
            for line in islice(_lines(reader, from_beginning, no_follow, with_all), count):
                out.write(dump(line) + b"\n")
                out.flush()
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None


def _lines(reader: Reader, from_beginning: bool, no_follow: bool, with_all: bool) -> Iterator[dict[str, Any]]:
    bounds = {p: reader.bounds(p) for p in reader.partitions}
    starts = {p: low if from_beginning else high for p, (low, high) in bounds.items()}
    ends = {p: high for p, (_, high) in bounds.items()}
    for message in reader.until(starts, ends) if no_follow else reader.follow(starts):
        at = message.partition() or 0, message.offset() or 0
        yield from lines(reader.topic, *at, message.key(), message.headers() or [], message.value(), with_all)
