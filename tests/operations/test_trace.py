"""From what is stored back to the bytes that came, against real Kafka and ClickHouse."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from operations import trace as traces
from operations.errors import InvalidArgumentError
from operations.trace import Trace
from runtime.errors import MillraceError
from runtime.kafka import clients
from schemas.topics import RAW, READINGS
from tests.operations.corrections import Access, say, settled
from tests.sinks.conftest import Stand


@pytest.fixture
def spoken(make_stand: Callable[..., Stand]) -> tuple[Stand, list[Access]]:
    """Two devices said something: good messages, a bad one and a repeat."""
    stand = make_stand(2)
    parts = [Access(stand, p) for p in range(2)]
    say(parts, 2)
    stand.sink()
    settled(stand, parts)
    return stand, parts


def follow(stand: Stand, device: str, **more: Any) -> Trace:
    return traces.trace(stand.kafka_settings, stand.settings, device, **more)


def test_a_reading_leads_to_the_bytes_it_came_in_until_kafka_no_longer_holds_them(
    spoken: tuple[Stand, list[Access]],
) -> None:
    stand, _parts = spoken
    found = follow(stand, "dev-1")
    assert (found.fate, found.publisher, found.name.partition, found.boot) == ("accepted", "dev-1", 1, 1)
    assert found.message is not None and found.message["topic"] == "d/dev-1/telemetry/climate"
    assert {r["metric"] for r in found.readings} == {"temperature", "mode"}
    number = next(r["value"] for r in found.readings if r["metric"] == "temperature")
    assert found.message["payload"] == f'{{"temperature": {int(number)}.5, "mode": "auto"}}'
    appended = [found.times[stage] for stage in (RAW, READINGS)]
    assert None not in appended and appended == sorted(appended)  # type: ignore[type-var]
    assert found.plain()["name"] == str(found.name) and "reason" not in found.plain()

    admin = clients.admin(stand.kafka_settings)
    gone = [TopicPartition(RAW, 1, found.name.offset + 1)]
    for future in admin.delete_records(gone).values():
        future.result(10)
    later = follow(stand, "dev-1")
    assert (later.name, later.message, later.times[RAW]) == (found.name, None, None)
    assert later.readings == found.readings


@pytest.mark.long
def test_the_last_message_before_a_time_is_found(spoken: tuple[Stand, list[Access]]) -> None:
    stand, _parts = spoken
    newest = follow(stand, "dev-0")
    measured = newest.times["device"]
    assert measured is not None
    earlier = follow(stand, "dev-0", at=measured - timedelta(milliseconds=1)).times["device"]
    assert earlier is not None and earlier < measured


@pytest.mark.long
def test_of_a_device_without_readings_the_refused_message_is_shown(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(1)
    part = Access(stand, 0)
    part.garble()
    stand.sink()
    settled(stand, [part])
    found = follow(stand, "dev-0")
    assert found.fate == "dead letter" and (found.reason or "").startswith("json")
    assert found.message is not None and found.message["payload"] == "{"
    with pytest.raises(MillraceError, match="nothing of dev-9 is stored"):
        follow(stand, "dev-9")
    with pytest.raises(InvalidArgumentError, match="is not a device id"):
        follow(stand, "No Device")
