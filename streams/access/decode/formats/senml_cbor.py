"""SenML in CBOR: `application/senml+cbor` (RFC 8428, section 6). Labels are numbers, data is bytes."""

import base64
import io
from typing import Any, Final

import cbor2

from streams.access.decode.formats import senml
from streams.access.decode.limits import Invalid, shown
from streams.access.decode.message import Message

LABELS: Final = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}

_MAX_DEPTH: Final = 8
"""An array of records; the rest is for tags and fields that we do not know."""


def decode(payload: bytes, received_ms: int) -> Message:
    stream = io.BytesIO(payload)
    try:
        pack = cbor2.CBORDecoder(stream, max_depth=_MAX_DEPTH).decode()
    except cbor2.CBORError as error:
        raise Invalid("cbor", str(error)[:120]) from None
    if stream.read(1):
        raise Invalid("cbor", "there is more after the array")
    return senml.resolve(_named(pack), received_ms, _data)


def _named(pack: Any) -> Any:
    """The pack with labels as in JSON."""
    if type(pack) is not list or any(type(record) is not dict for record in pack):
        raise Invalid("senml", "expected an array of records")
    return [{_label(label): value for label, value in record.items()} for record in pack]


def _label(label: Any) -> Any:
    """Other numbers are fields that we do not know; text is a field of its own name."""
    if type(label) is int:
        return LABELS.get(label, label)
    if type(label) is str and label not in LABELS.values():
        return label
    raise Invalid("senml", f"field {shown(label)} has no label of CBOR")


def _data(value: Any) -> str | None:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode() if type(value) is bytes else None
