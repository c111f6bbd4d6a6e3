"""Devices that connect and disconnect too often, found by one number per device: heat, in stream time.

Each change heats a device by `within / changes`, and it cools by a second a second. Above `within` it is restless: that
is more than `changes` changes within that time, if they come at once. Then it is held until it has cooled to half of
it. Heat is bounded, so that a device is calm at most `within` after its last change, however wild it was before.
"""

import numpy as np

from runtime.columns.types import Bool, Int32, Int64
from streams.presence.rules import Rules


def heated(heat_ms: Int64, now_ms: int, changes: Int32, rules: Rules) -> Int64:
    """Heat after so many changes, as the stream time at which it will be gone."""
    step = rules.within_ms // rules.changes
    found: Int64 = np.minimum(np.maximum(heat_ms, now_ms) + changes.astype(np.int64) * step, now_ms + _most(rules))
    return found


def is_restless(heat_ms: Int64, now_ms: int, rules: Rules) -> Bool:
    found: Bool = heat_ms - now_ms > rules.within_ms
    return found


def is_calm(heat_ms: Int64, now_ms: int, rules: Rules) -> Bool:
    found: Bool = heat_ms - now_ms <= rules.within_ms // 2
    return found


def _most(rules: Rules) -> int:
    return rules.within_ms * 3 // 2
