"""Topic names of Kafka and the grammar of MQTT topics.

    uplink    d/{device}/telemetry/{channel}   d/{device}/event/{name}   d/{device}/reply/{request}
              d/{device}/config                d/{device}/control/{target}/{command}
    downlink  c/{device}/ack                   c/{device}/command/{name} c/{device}/config …

A device id is `[a-z0-9-]{1,64}`; every other segment is `[A-Za-z0-9_.-]{1,64}`.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from schemas.errors import ContractError

RAW: Final = "telemetry.raw"
READINGS: Final = "telemetry.readings"
AGGREGATES: Final = "telemetry.aggregates"
ANOMALIES: Final = "telemetry.anomalies"
INCIDENTS: Final = "telemetry.incidents"
PRESENCE: Final = "telemetry.presence"
CONTROL: Final = "platform.control"
FACTS: Final = "platform.facts"
"""Small and compacted: identities of topics, and what else every service reads when it starts."""

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "access": (READINGS,),
    "aggregate": (AGGREGATES,),
    "anomaly": (ANOMALIES, INCIDENTS),
    "presence": (PRESENCE,),
}
"""Every stage and the topics it writes: the one list of stages. Topics and rights in Kafka come from it; services,
docker-compose.yml and pages are held to it by tests/docs/test_stages.py."""


def source_of(stage: str) -> str:
    """The topic that a stage reads. Raises KeyError for no stage."""
    return RAW if READINGS in STAGES[stage] else READINGS


DERIVED: Final = (AGGREGATES, ANOMALIES, INCIDENTS, PRESENCE)
"""Topics of the stages behind access: one record for each tick, and more where there is something to say."""


def state_topic(stage: str) -> str:
    """The compacted topic that holds the snapshots of a stage."""
    return f"state.{stage}"


MAX_CHARS: Final = 64
DEVICE_ID: Final = f"[a-z0-9-]{{1,{MAX_CHARS}}}"
NAME: Final = f"[A-Za-z0-9_.-]{{1,{MAX_CHARS}}}"
"""Channels, metrics, roles, labels: every name that is not a device's."""
is_device_id = re.compile(DEVICE_ID).fullmatch
is_name = re.compile(NAME).fullmatch

UPLINK_FILTER: Final = "d/#"
Branch = Literal["telemetry", "event", "reply", "config", "control"]
_SEGMENTS: Final[dict[str, int]] = {"telemetry": 1, "event": 1, "reply": 1, "config": 0, "control": 2}


@dataclass(frozen=True, slots=True)
class Uplink:
    """A parsed uplink topic. `names` are the segments after the branch (`telemetry/{channel}` has one)."""

    device: str
    branch: Branch
    names: tuple[str, ...]


def parse_uplink(topic: str) -> Uplink:
    """Split an uplink topic. Raises ContractError that names the segment at fault."""
    parts = topic.split("/")
    if len(parts) < 3 or parts[0] != "d":
        raise ContractError(f"topic {topic[:120]!r}: expected d/{{device}}/{{branch}}/…")
    device, branch, names = parts[1], parts[2], tuple(parts[3:])
    if not is_device_id(device):
        raise ContractError(f"topic {topic[:120]!r}: device id must match {DEVICE_ID}")
    if branch not in _SEGMENTS or len(names) != _SEGMENTS[branch]:
        raise ContractError(f"topic {topic[:120]!r}: unknown branch {branch[:64]!r} with {len(names)} names")
    if not all(map(is_name, names)):
        raise ContractError(f"topic {topic[:120]!r}: names must match {NAME}")
    return Uplink(device, branch, names)  # type: ignore[arg-type]


def telemetry_topic(device: str, channel: str) -> str:
    return f"d/{device}/telemetry/{channel}"


_PLATFORM: Final = re.compile(f"p/({DEVICE_ID})/(connected|disconnected)").fullmatch


def platform_topic(device: str, event: Literal["connected", "disconnected"]) -> str:
    """Topic of a row by which the bridge reports what the broker logged of a device. No client can publish there."""
    return f"p/{device}/{event}"


def parse_platform(topic: str) -> tuple[str, str]:
    """(device, event) of a platform row. Raises ContractError."""
    found = _PLATFORM(topic)
    if found is None:
        raise ContractError(f"topic {topic[:120]!r}: expected p/{{device}}/connected or disconnected")
    return found[1], found[2]


def ack_topic(device: str) -> str:
    """Where end-to-end acknowledgement of the device's messages is published."""
    return f"c/{device}/ack"
