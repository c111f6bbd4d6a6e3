"""Control records: what operators and the platform decide, in `platform.control` (compacted) and in band.

Keys of `platform.control` and their JSON values:
    policy          a policy as checked: {"roles": {...}, "unknown": role or null}
    settings/{stage} settings of a stage as checked, JSON
    good/policy, good/settings/{stage}   copies, written in the same transaction as what they are copies of
    device/{id}     {"role", "state", "parent": id or null, "labels": {...}, "token": sha256 hex or null}
    mark/{incident} an operator's mark on an incident: see Mark
    heartbeat/{who} a clock probe of the relay; not relayed
    topic/{name}    {"topic_id", "epoch", "partitions"}   copies of those in `platform.facts`, for releases before 0.2

Decoding is total: any bytes give a value or a ContractError. Fields that this release does not know are kept, and
written back with the rest. What does not decode has a defined meaning for every reader, see `read_device` and `GOOD`.

The format's version is in the Kafka header `format` of a record of `platform.control`; one without it was written by a
release before 0.2. The relay writes policy, settings and their copies to every partition of telemetry.raw, a device
without its token to its partition and those of its parents, and a mark to the partition of its device, or to all when
it is of a group. The version of a control record in band is (epoch of platform.control, offset there).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import orjson

from schemas.errors import ContractError
from schemas.topics import is_device_id, is_name

FORMAT: Final = b"1"
"""Of the records that this release writes."""
FORMAT_HEADER: Final = "format"
FORMER_HEADER: Final = "former"
"""Of a device's record: the parents that it had before, other than the present one, comma-separated; ANY when they are
not known. Compaction may remove the record that named them before the relay has seen it."""
ANY: Final = "*"
CHANGE_HEADER: Final = "change"
"""Names the change that a record belongs to; random."""

POLICY_KEY: Final = "policy"
GOOD: Final = "good/"
"""Prefix of the copy of a policy or of settings. Where the newest record of a key does not decode, the copy is in
force: the last good version, before and after compaction."""
ACTIVE: Final = "active"
REMOVED: Final = "removed"
UNKNOWN: Final = "unknown"
"""The state of a device whose record cannot be read. A state other than ACTIVE denies the device everywhere."""
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


def good_key(key: str) -> str:
    """Key of the copy of a policy or of settings."""
    return GOOD + key


def is_mark(key: str) -> bool:
    return key.startswith(_MARK)


def device_of(key: str) -> str | None:
    """The device a control key is about, or None."""
    return key[len(_DEVICE) :] if key.startswith(_DEVICE) else None


def is_relayed(key: str) -> bool:
    """Whether the relay carries records of this key into telemetry.raw."""
    return key.removeprefix(GOOD) == POLICY_KEY or key.removeprefix(GOOD).startswith(_SETTINGS) or is_subject(key)


def is_subject(key: str) -> bool:
    """Whether a record of this key is about a device or an incident, so that not every partition gets it."""
    return key.startswith((_DEVICE, _MARK))


def token_hash(token: str) -> str:
    """What is kept of an HTTP token: tokens are 256 random bits, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device, as `device/{id}` holds it. `state` may be one of a later release; see `is_active`.

    `more`: fields that this release does not know, kept as they came.
    """

    id: str
    role: str
    state: str = ACTIVE
    parent: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether the device may speak at all."""
        return self.state == ACTIVE

    def encode(self, with_token: bool = True) -> bytes:
        body = _body(self)
        if not with_token:
            body["token"] = None
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "Device":
        """Raises ContractError."""
        body = _object(key, value)
        take = body.pop  # what remains are the fields that this release does not know
        device, role, state = take("id", None), take("role", None), take("state", ACTIVE)
        parent, labels, token = take("parent", None), take("labels", None), take("token", None)
        labels = {} if labels is None else labels
        wrong = (
            ("id", device)
            if type(device) is not str or _DEVICE + device != key or not is_device_id(device)
            else ("role", role)
            if type(role) is not str
            else ("state", state)
            if state != ACTIVE and (type(state) is not str or not is_name(state))
            else ("parent", parent)
            if parent is not None and (type(parent) is not str or not is_device_id(parent))
            else ("labels", labels)
            if type(labels) is not dict or (labels and set(map(type, labels.values())) != _TEXT)
            else ("token", token)
            if token is not None and type(token) is not str
            else None
        )
        if wrong is not None:
            raise ContractError(f"control record {key[:80]!r}: its {wrong[0]} is {repr(wrong[1])[:80]}")
        return cls(device, role, state, parent, labels, token, body)


def read_device(key: str, value: bytes | None) -> tuple[Device, str | None]:
    """What every reader makes of a record `device/{id}`, and why if it is broken: never raises for the key of a device.

    A broken record is a device in the state UNKNOWN; a tombstone, or an empty value, one that was removed.
    """
    device = device_of(key) or ""
    if not value:
        return Device(device, "", REMOVED), None
    try:
        return Device.decode(key, value), None
    except ContractError as error:
        return Device(device, "", UNKNOWN), str(error)


@dataclass(frozen=True, slots=True)
class Mark:
    """An operator's mark on an incident. `device` is the publisher in whose partition the series lives, null for an
    incident of a group. `at_ms`: when the operator set it.

    What the incident is about, as telemetry.incidents says, so that nobody need remember every incident: `scope`,
    `subject` (device, or value of the group), `channel`, `metric` and `detector`. `more`: fields that this release does
    not know, kept as they came.
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
    more: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return orjson.dumps(_body(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "Mark":
        """Raises ContractError."""
        body = _object(key, value)
        _check(key, body, "incident", isinstance(body.get("incident"), str) and mark_key(body["incident"]) == key)
        _check(key, body, "mark", body.get("mark") in ("false-alarm", "confirmed"))
        device = body.setdefault("device", None)
        _check(key, body, "device", device is None or (isinstance(device, str) and bool(is_device_id(device))))
        _check(key, body, "at_ms", _is_count(body.get("at_ms"), _MAX_MS))
        for name in ("scope", "subject", "channel", "metric", "detector"):
            _check(key, body, name, isinstance(body.get(name, ""), str))
        return cls(**_split(cls, body))


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic's identity, given at its creation: a topic created again under the same name gets the next epoch."""

    topic_id: str
    epoch: int
    partitions: int
    more: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return orjson.dumps(_body(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, key: str, value: bytes) -> "TopicFacts":
        """Raises ContractError."""
        body = _object(key, value)
        _check(key, body, "topic_id", isinstance(body.get("topic_id"), str))
        _check(key, body, "epoch", _is_count(body.get("epoch"), _MAX_EPOCH))
        _check(key, body, "partitions", _is_count(body.get("partitions"), _MAX_PARTITIONS) and body["partitions"] > 0)
        return cls(**_split(cls, body))


_TEXT: Final = {str}
_MAX_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""
_MAX_EPOCH: Final = 65_535
_MAX_PARTITIONS: Final = 1_000_000


def former_parents(headers: Mapping[str, bytes]) -> Sequence[str] | None:
    """Parents that a device had before, by the headers of its record; None when they are not known."""
    if FORMAT_HEADER not in headers:
        return None
    text = headers.get(FORMER_HEADER, b"").decode("ascii", "replace")
    found = text.split(",") if text else []
    return found if all(map(is_device_id, found)) else None


def _object(key: str, value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ContractError(f"control record {key!r} is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise ContractError(f"control record {key!r} is not a JSON object")
    return body


def _check(key: str, body: Mapping[str, Any], name: str, right: bool) -> None:
    if not right:
        found = repr(body[name])[:80] if name in body else "missing"
        raise ContractError(f"control record {key[:80]!r}: its {name} is {found}")


def _is_count(value: Any, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _body(record: Any) -> dict[str, Any]:
    """The fields of a record as they are encoded."""
    known = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "more"}
    return {**record.more, **known}


_NAMES: Final[dict[type, frozenset[str]]] = {
    cls: frozenset(f.name for f in fields(cls)) - {"more"} for cls in (Device, Mark, TopicFacts)
}


def _split(cls: type, body: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a record class: the fields it knows, and `more`."""
    known = _NAMES[cls]
    more = {name: value for name, value in body.items() if name not in known}
    return {name: value for name, value in body.items() if name in known} | {"more": more}
