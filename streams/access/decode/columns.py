"""What the decoder answers: columns of readings, columns of rows, and the dead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.columns.types import Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class Decoded:
    """All readings of a batch in order of (row, index), and per row what names the message.

    Of each reading (arrays of equal length):
        row       row of the batch
        index     position of the reading in its message, from 0
        metric    code of its name: `names[code]`. Codes below `known` mean the same in every later batch of the same
                  `generation`; codes from `known` on are names that only this batch has, at most as many as readings
        child     None when no reading names a child; else a code into `children`, -1 where it is the publisher's own
        time_ms   milliseconds since 1970, UTC: the reading's own, else the message's, else received_at. `timed`: there
                  is one that is not received_at
        value     finite, |value| < 2^63; NaN exactly where the reading is text
        text      None when no reading is text; else a pyarrow StringArray, null where the reading is a number
    Of each row (arrays as long as the batch):
        boot, seq   -1 when absent; also of dead rows as far as they could be read
    dead       row -> `rule: detail`. Dead rows have no readings. A row has readings, or is dead, or was not wanted
    fallback   the fast path failed and every message was decoded one by one: right, but slow, and worth an alarm
    """

    row: Int32
    index: Int32
    metric: Int32
    child: Int32 | None
    time_ms: Int64
    value: Float64
    text: Any | None
    boot: Int64
    seq: Int64
    names: Sequence[str]
    known: int
    generation: int
    children: Sequence[str]
    dead: dict[int, str]
    timed: bool
    fallback: bool = False


def first_seen(codes: Int32) -> tuple[Int32, Int32]:
    """(dense, order): codes renumbered by first appearance, and the old code of each new one.

    For dictionary columns whose bytes must not depend on history: `order` is the dictionary, `dense` the indices.
    """
    if not len(codes):
        return codes, codes
    place = np.full(int(codes.max()) + 1, len(codes))
    place[codes[::-1]] = np.arange(len(codes))[::-1]
    order = place.argsort()[: np.count_nonzero(place < len(codes))]
    place[order] = np.arange(len(order))
    return place.take(codes).astype(np.int32), order.astype(np.int32)
