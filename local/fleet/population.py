"""Who is in a fleet of N devices: kinds, names, forms of payload, transports. A function of N alone, so that the same
names always have the same role."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from local.fleet.kinds import CLIMATE, GATEWAY, KINDS, METER, MOTOR, Kind

Int = npt.NDArray[np.int64]

CHILDREN: Final = 4
"""Children of a gateway."""
MIN_FOR_GATEWAYS: Final = 4
MIN_FOR_HTTP: Final = 20


class Form(IntEnum):
    """How a payload is written."""

    FLAT = 0
    """`{"ts":…,"boot":…,"seq":…,"temperature":…}`"""
    NESTED = 1
    """The same with the metrics below the channel's name, and the time as ISO 8601."""
    ARRAY = 2
    """Two samples in one message."""
    BARE = 3
    """Flat; boot, seq and ts travel as MQTT 5 user properties."""
    CHILDREN = 4
    """A gateway's array of its children's samples."""
    SENML_JSON = 5
    SENML_CBOR = 6
    ARROW = 7


HAS_PROPERTIES: Final = frozenset((Form.BARE, Form.SENML_JSON, Form.SENML_CBOR, Form.ARROW))
"""Forms whose boot and seq are MQTT 5 user properties."""
_SINGLE: Final = (Form.FLAT,) * 6 + (Form.NESTED, Form.ARRAY, Form.BARE, Form.BARE)
_GATEWAYS: Final = (Form.CHILDREN, Form.SENML_JSON, Form.SENML_CBOR, Form.ARROW)


@dataclass(frozen=True, slots=True)
class Member:
    """One device of the fleet. `acknowledged`: it asks for end-to-end acknowledgement."""

    id: str
    kind: Kind
    form: Form
    http: bool = False
    acknowledged: bool = False
    parent: str | None = None


@dataclass(frozen=True)
class Population:
    """`members` have connections; then come the children of gateways, CHILDREN for each gateway, in order."""

    members: tuple[Member, ...]
    children: tuple[Member, ...]

    @property
    def everybody(self) -> tuple[Member, ...]:
        return self.members + self.children

    @cached_property
    def first_child(self) -> Int:
        """Of each member: index in `everybody` of its first child; -1 for others than gateways."""
        is_gateway = np.array([m.kind is GATEWAY for m in self.members], bool)
        return np.where(is_gateway, len(self.members) + (np.cumsum(is_gateway) - 1) * CHILDREN, -1)


def build(devices: int) -> Population:
    """A fleet of so many connections: 1 in 40 gateways, 3 in 20 meters (half of them by HTTP), 1 in 5 motors."""
    gateways = max(1, devices // 40) if devices >= MIN_FOR_GATEWAYS else 0
    meters, motors = devices * 3 // 20, devices // 5
    sizes = {CLIMATE: devices - gateways - meters - motors, MOTOR: motors, METER: meters, GATEWAY: gateways}
    with_http = devices >= MIN_FOR_HTTP
    members = [_member(kind, i, with_http) for kind in KINDS for i in range(sizes[kind])]
    children = [
        Member(f"{m.id}-{j}", CLIMATE, Form.FLAT, parent=m.id)
        for m in members
        if m.kind is GATEWAY
        for j in range(CHILDREN)
    ]
    return Population(tuple(members), tuple(children))


def _member(kind: Kind, number: int, with_http: bool) -> Member:
    name = f"{kind.name}-{number:05d}"
    if kind is GATEWAY:
        return Member(name, kind, _GATEWAYS[number % len(_GATEWAYS)])
    if kind is METER and with_http and number % 2:
        return Member(name, kind, Form.FLAT, http=True)
    form = _SINGLE[number % len(_SINGLE)]
    return Member(name, kind, form, acknowledged=form is Form.BARE and number % 20 == 8)
