"""What access of this version makes of raw records of the past: public, for commands that correct what is stored.

The state knows the policy and the registry that were in force before the first record, and no message: a repeat of an
older message is taken for new. That does no harm where only messages that were accepted then are compared.

Example: `Reprocessor(epoch, partition, in_force).answer(offset, headers, value)` for each record in order of offsets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from runtime.stage.contract import Record
from schemas import headers
from schemas.control import POLICY_KEY, Device, device_key
from schemas.headers import Headers, Provenance, Version
from schemas.vocabulary import Kind
from streams.access.core.stage import AccessStage
from streams.access.core.state import State
from streams.access.decode import Decoder

LOGIC_VERSION: Final = AccessStage.logic_version


@dataclass(frozen=True, slots=True)
class InForce:
    """A control record as the relay wrote it into telemetry.raw."""

    version: Version
    key: str
    value: bytes


def policy(version: Version, text: str) -> InForce:
    return InForce(version, POLICY_KEY, text.encode())


def device(version: Version, found: Device) -> InForce:
    return InForce(version, device_key(found.id), found.encode(with_token=False))


class Reprocessor:
    """Access over one partition of telemetry.raw. Not thread-safe.

    Args: the epoch of telemetry.raw, its partition, and what was in force before the first record that is given.
    """

    def __init__(self, epoch: int, partition: int, in_force: Iterable[InForce]) -> None:
        self._epoch, self._partition, self._prev = epoch, partition, -1
        self._state = State(Decoder())
        for one in sorted(in_force, key=lambda one: one.version):
            found = headers.table(headers.raw_control(one.version, one.key))
            self._state.apply(Record(partition, -1, epoch, -1, Kind.CONTROL, found, one.value))

    def answer(self, offset: int, given: Headers, value: bytes) -> tuple[Headers, bytes] | None:
        """Headers, with provenance, and value of the record of telemetry.readings; None unless it is a data record.

        Offsets must rise. The answers form a chain of their own: the first one follows none.
        """
        found = headers.table(given)
        kind = headers.kind_of(found)
        (output,) = self._state.apply(Record(self._partition, offset, self._epoch, offset, kind, found, value))
        if kind is not Kind.DATA:
            return None
        provenance = Provenance(self._epoch, offset, self._prev).encode()
        self._prev = offset
        return [*output.headers, *provenance], output.value
