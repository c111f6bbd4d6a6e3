"""How long a device may be silent, learned from the gaps between its messages. Constant state and little work.

What counts is the longest usual gap, not the mean: a device that sends twenty messages once an hour is silent for an
hour as a matter of course. `usual` is the longest gap of this period and the one before; a period is as long as PERIOD
usual gaps, so what was long once is forgotten in time, not in messages: a burst of a thousand that takes a second has
the weight of a second.

A gap that is longer than all of the period is taken at most as GROWTH times what was allowed: one outage of two days
does not mean that two days are usual from now on, yet steps of that size reach any new habit soon. Before a device was
heard for WATCHED times its longest gap nothing is known, and no gap is cut.

Times are milliseconds.
"""

from typing import Final

import numpy as np

from runtime.columns.types import Bool, Int64
from streams.presence.rules import Rules

PERIOD: Final = 20
GROWTH: Final = 2
WATCHED: Final = 4


def is_known(usual: Int64, watched: Int64, rules: Rules) -> Bool:
    """Whether a device was heard for long enough. `watched`: from the first to the last time."""
    found: Bool = watched >= np.maximum(WATCHED * usual, rules.least_ms)
    return found


def allowed(usual: Int64, watched: Int64, rules: Rules) -> Int64:
    """How long each may be silent."""
    return np.where(is_known(usual, watched, rules), _allowed(usual, rules), rules.unknown_ms)


def cut(gap: Int64, usual: Int64, watched: Int64, rules: Rules) -> Int64:
    """A gap as it counts."""
    most = np.where(is_known(usual, watched, rules), GROWTH * _allowed(usual, rules), gap)
    return np.minimum(gap, most)


def is_over(period: Int64, usual: Int64, rules: Rules) -> Bool:
    """Whether a period that has lasted so long is over."""
    found: Bool = period >= np.maximum(PERIOD * usual, rules.least_ms)
    return found


def is_silent(heard: Int64, usual: Int64, watched: Int64, now: int, rules: Rules) -> Bool:
    """Whether each has been silent for longer than it may be, counted from the tick at which it was heard. It spoke
    after that tick, so where ticks lie a little more than their usual second apart, this is up to a tick sooner."""
    found: Bool = heard + allowed(usual, watched, rules) < now
    return found


def look_again(heard: Int64, first: Int64, usual: Int64, now: int, rules: Rules) -> Int64:
    """When to look at a device again: when it is silent if nothing is heard until then, or while nothing is known of
    it, when something may be, and that not all the time."""
    watched = heard - first
    silent = heard + allowed(usual, watched, rules) + 1
    known = np.maximum(first + np.maximum(WATCHED * usual, rules.least_ms), now + rules.least_ms)
    return np.where(is_known(usual, watched, rules), silent, np.minimum(silent, known))


def _allowed(usual: Int64, rules: Rules) -> Int64:
    found: Int64 = np.clip(rules.factor * usual, rules.least_ms, rules.most_ms).astype(np.int64)
    return found
