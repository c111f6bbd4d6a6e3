"""Control records: what operators and the platform decide, in `platform.control` (compacted) and in band.

Keys of `platform.control` and their JSON values:
    topic/{name}    {"topic_id", "epoch", "partitions"}   copies of those in `platform.facts`, for releases before 0.2
    settings/{stage} settings of a stage as checked, JSON; relayed to every partition
    mark/{incident} what an operator said of an incident: see Mark
    policy          a policy as checked: {"roles": {...}, "unknown": role or null}
    device/{id}     {"role", "state": "active" | "removed", "parent": id or null, "labels": {...}, "token": sha256 hex}
    heartbeat/{who} a clock probe of the relay; not relayed

The relay writes `policy` and settings to every partition of telemetry.raw, `device/{id}` to the partition of the device
(and of its parent), without the token, and a mark to the partition of its device, or to all when it is of a group. The
version of a control record is (epoch of platform.control, offset there).
"""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import orjson

from schemas.errors import ContractError
from schemas.topics import is_device_id

POLICY_KEY: Final = "policy"
_DEVICE: Final = "device/"
_TOPIC: Final = "topic/"
_HEARTBEAT: Final = "heartbeat/"
_SETTINGS: Final = "settings/"
_MARK: Final = "mark/"


def device_key(device: str) -> str:
    return _DEVICE + device


def topic_key(topic: str) -> str:
    return _TOPIC + topic


def topic_of(key: str) -> str | None:
    """The topic whose identity a key of `platform.facts` is about, or None."""
    return key[len(_TOPIC) :] if key.startswith(_TOPIC) else None


def heartbeat_key(who: str) -> str:
    return _HEARTBEAT + who


def settings_key(stage: str) -> str:
    return _SETTINGS + stage


def mark_key(incident: str) -> str:
    return _MARK + incident


def is_mark(key: str) -> bool:
    return key.startswith(_MARK)


def device_of(key: str) -> str | None:
    """The device a control key is about, or None."""
    return key[len(_DEVICE) :] if key.startswith(_DEVICE) else None


def is_relayed(key: str) -> bool:
    """Whether the relay carries records of this key into telemetry.raw."""
    return key == POLICY_KEY or key.startswith((_DEVICE, _SETTINGS, _MARK))


def token_hash(token: str) -> str:
    """What is kept of an HTTP token: tokens are 256 random bits, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device, as `device/{id}` holds it."""

    id: str
    role: str
    state: Literal["active", "removed"] = "active"
    parent: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    token: str | None = None

    def encode(self, with_token: bool = True) -> bytes:
        body = asdict(self)
        if not with_token:
            body["token"] = None
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "Device":
        body = _object(key, value)
        try:
            device = cls(**body)
        except TypeError as error:
            raise ContractError(f"control record {key!r}: {error}") from None
        if device_key(device.id) != key or not is_device_id(device.id):
            raise ContractError(f"control record {key!r}: its id is {device.id!r}")
        return device


@dataclass(frozen=True, slots=True)
class Mark:
    """What an operator said of an incident. `device` is the publisher in whose partition the series lives, null for an
    incident of a group. `at_ms`: when the operator said it.

    What the incident is about, as telemetry.incidents says, so that nobody need remember every incident: `scope`,
    `subject` (device, or value of the group), `channel`, `metric` and `detector`.
    """

    incident: str
    mark: Literal["false-alarm", "confirmed"]
    device: str | None
    at_ms: int
    scope: str = ""
    subject: str = ""
    channel: str = ""
    metric: str = ""
    detector: str = ""

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "Mark":
        body = _object(key, value)
        try:
            mark = cls(**body)
        except TypeError as error:
            raise ContractError(f"control record {key!r}: {error}") from None
        about = (mark.scope, mark.subject, mark.channel, mark.metric, mark.detector)
        if not all(isinstance(word, str) for word in (mark.incident, *about)):
            raise ContractError(f"control record {key!r}: what it is about is no text")
        if mark_key(mark.incident) != key or mark.mark not in ("false-alarm", "confirmed"):
            raise ContractError(f"control record {key!r}: it is of {mark.incident!r} and says {mark.mark!r}")
        if mark.device is not None and not (isinstance(mark.device, str) and is_device_id(mark.device)):
            raise ContractError(f"control record {key!r}: its device is {mark.device!r}")
        return mark


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic's identity, given at its creation: a topic made anew under the same name gets the next epoch."""

    topic_id: str
    epoch: int
    partitions: int

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "TopicFacts":
        body = _object(key, value)
        try:
            return cls(str(body["topic_id"]), int(body["epoch"]), int(body["partitions"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"control record {key!r}: {error!r}") from None


def _object(key: str, value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ContractError(f"control record {key!r} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise ContractError(f"control record {key!r} is no JSON object")
    return body
