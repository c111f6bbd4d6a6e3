"""What access of this version makes of raw records of the past: public, for commands that correct what is stored.

The state knows the policy and the registry that were in force before the first record, and no message: a repeat of an
older message is taken for new. That does no harm where only messages that were accepted then are compared.

Records that an operator told access to skip are answered as access answered them, with dead letters.

Example: `Reprocessor(epoch, partition, in_force, skips).answer(offset, headers, value)` for each record in order of
offsets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.stage.contract import Record
from schemas import headers
from schemas.control import POLICY_KEY, Device, device_key
from schemas.headers import Headers, Provenance, Version
from schemas.skips import Skip
from schemas.vocabulary import Kind
from streams.access.core.stage import AccessStage

STAGE: Final = AccessStage.name
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

    Args: the epoch of telemetry.raw, its partition, what was in force before the first record that is given, and the
    partition's records that access skips, by offset.
    """

    def __init__(
        self, epoch: int, partition: int, in_force: Iterable[InForce], skips: Mapping[int, Skip] | None = None
    ) -> None:
        self._epoch, self._partition, self._prev = epoch, partition, -1
        self._skips, self._stage = skips or {}, AccessStage()
        self._state = self._stage.create(partition)
        for one in sorted(in_force, key=lambda one: one.version):
            found = headers.table(headers.raw_control(one.version, one.key))
            self._state.apply(Record(partition, -1, epoch, -1, Kind.CONTROL, found, one.value))

    def answer(self, offset: int, given: Headers, value: bytes) -> tuple[Headers, bytes] | None:
        """Headers, with provenance, and value of the record of telemetry.readings; None unless it is a data record.

        Offsets must rise. The answers form a chain of their own: the first one follows none. Raises ContractError for
        a record that breaks the contract and is not skipped.
        """
        record = self._record(offset, given, value)
        (output,) = self._state.apply(record)
        if record.kind is not Kind.DATA:
            return None
        provenance = Provenance(self._epoch, offset, self._prev).encode()
        self._prev = offset
        return [*output.headers, *provenance], output.value

    def _record(self, offset: int, given: Headers, value: bytes) -> Record:
        skip = self._skips.get(offset)
        found = headers.table(given) if skip is None else dict(given)
        kind = headers.kind_of(found) if skip is None else Kind.DATA
        record = Record(self._partition, offset, self._epoch, offset, kind, found, value)
        return record if skip is None else self._stage.skipped(record, skip.reason)
