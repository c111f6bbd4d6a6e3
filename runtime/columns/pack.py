"""Arrays to bytes and back: a JSON head that says what there is, then their bytes one after the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

Arrays = dict[str, Any]
"""Name -> numpy array of any shape and a fixed-size type."""


def pack(meta: Any, arrays: Mapping[str, Any]) -> bytes:
    """`meta`: anything JSON can say. The same values give the same bytes."""
    flat = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    head = orjson.dumps(
        {"meta": meta, "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in flat.items()]},
        option=orjson.OPT_SORT_KEYS,
    )
    bodies = (array.data.cast("B") if array.size else b"" for array in flat.values())
    return b"".join([len(head).to_bytes(8, "little"), head, *bodies])


def unpack(blob: bytes) -> tuple[Any, Arrays]:
    """(meta, arrays), which may be written to. Raises ValueError when the bytes do not add up."""
    at = 8 + int.from_bytes(blob[:8], "little")
    head = orjson.loads(blob[8:at])
    arrays: Arrays = {}
    for name, kind, shape in head["arrays"]:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        arrays[name] = np.frombuffer(blob[at : at + size], kind).reshape(shape).copy()
        at += size
    if at != len(blob):
        raise ValueError(f"packed arrays end at {at}, the blob at {len(blob)}")
    return head["meta"], arrays
