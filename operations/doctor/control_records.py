"""Control records that no reader can decode, and the command that supersedes each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from operations.doctor.judge import Finding, Level
from schemas.control import POLICY_KEY, Device, Mark, device_of, mark_key, settings_key
from schemas.errors import ContractError
from streams.access import policy
from streams.aggregate import windowing
from streams.anomaly import detectors
from streams.presence import rules

MOST: Final = 10
"""Named one by one; the rest is counted."""
_CHECK: Final = "control"
_DECODERS: Final[Mapping[str, tuple[Callable[[bytes], object], str]]] = {
    POLICY_KEY: (policy.decode, "millrace policy apply FILE"),
    settings_key("aggregate"): (windowing.decode, "millrace windows apply FILE"),
    settings_key("anomaly"): (detectors.decode, "millrace detector apply FILE"),
    settings_key("presence"): (rules.decode, "millrace presence apply FILE"),
}


def findings(records: Mapping[str, bytes]) -> Iterator[Finding]:
    """Of the newest record of each key. Pure."""
    broken = [(key, why, do) for key, value in sorted(records.items()) for why, do in _broken(key, value)]
    for key, why, do in broken[:MOST]:
        yield Finding(_CHECK, Level.WRONG, f"{key} cannot be decoded: {why}", do)
    if len(broken) > MOST:
        yield Finding(_CHECK, Level.WRONG, f"{len(broken) - MOST} more cannot be decoded", "see those above")
    if not broken:
        yield Finding(_CHECK, Level.OK, f"{len(records):,} records")


def _broken(key: str, value: bytes) -> Iterator[tuple[str, str]]:
    """(why, what to do) where it is."""
    decode, do = _DECODERS.get(key, (None, ""))
    device = device_of(key)
    if device is not None:
        decode, do = _device(key), f"the device is denied; `millrace device role {device} --role ROLE` supersedes it"
    elif key.startswith(mark_key("")):
        decode, do = _mark(key), f"`millrace incident mark {key.removeprefix(mark_key(''))}` supersedes it"
    elif decode is not None:
        do = f"the version before it is in force; `{do}` supersedes it"
    try:
        if decode is not None:
            decode(value)
    except (ContractError, TypeError, ValueError, AttributeError) as error:
        yield " ".join(str(error).split())[:200], do


def _device(key: str) -> Callable[[bytes], object]:
    return lambda value: Device.decode(key, value)


def _mark(key: str) -> Callable[[bytes], object]:
    return lambda value: Mark.decode(key, value)
