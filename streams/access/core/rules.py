"""A policy compiled to arrays and dictionaries, so that a batch is judged by look-ups.

Roles are numbers in the order of their names. The last row of every array stands for "no role" (index -1): it forbids
what a role would have to allow and limits nothing.
"""

from typing import Final

import numpy as np

from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.access.core.topics import Topics
from streams.access.decode import Decoded
from streams.access.policy import Policy, Rate, Role

NO_ROLE: Final = -1
NO_LIMIT: Final = 1 << 61
DENY: Final = 0
OPEN: Final = 1
"""Numbers of metric rules that every policy has: forbidden, and allowed without bounds."""
_UNRESOLVED: Final = -1
_MAX_CHANNELS: Final = 4096
WILL: Final = "offline"
"""event/offline is the will, which the broker publishes for a device that vanished: every role may."""


class Rules:
    """Of each role: `interval_us` and `burst_us` of its rate (0: none), `bytes`, `age_ms`, `ahead_ms` (NO_LIMIT: none).
    Of each metric rule: `low`, `high`, `refuse`. `unknown`: role of unregistered devices, or NO_ROLE."""

    def __init__(self, policy: Policy) -> None:
        self.names = sorted(policy.roles)
        self.index = {name: number for number, name in enumerate(self.names)}
        self.unknown = NO_ROLE if policy.unknown is None else self.index[policy.unknown]
        roles = [policy.roles[name] for name in self.names]
        self._roles = roles
        self.interval_us = _column([0 if r.rate is None else r.rate.interval_us for r in roles], 0)
        self.burst_us = _column([_burst_us(r) for r in roles], 0)
        self.bytes = _column([r.bytes or NO_LIMIT for r in roles], NO_LIMIT)
        self.age_ms = _column([_limit_ms(r.max_age_s) for r in roles], NO_LIMIT)
        self.ahead_ms = _column([_limit_ms(r.max_ahead_s) for r in roles], NO_LIMIT)
        self._metrics = MetricRules(roles)
        self.low, self.high, self.refuse = self._metrics.low, self._metrics.high, self._metrics.refuse
        self._channels: dict[str, Bool] = {}

    def rate_of(self, role: int) -> Rate | None:
        return self._roles[role].rate

    def may(self, role: int, branch: str, names: tuple[str, ...]) -> bool:
        """Whether a role may publish on this branch under these names."""
        if role == NO_ROLE:
            return False
        if branch == "event" and names == (WILL,):
            return True
        return any(_matches(pattern, branch, names) for pattern in self._roles[role].publish)

    def channels(self, topics: Topics) -> Bool:
        """bool[roles + 1, channels of the batch]: whether the role may publish telemetry there."""
        if len(self._channels) > _MAX_CHANNELS:
            self._channels.clear()
        found = np.zeros((len(self.names) + 1, len(topics.words)), bool)
        for code, word in enumerate(topics.words):
            column = self._channels.get(word)
            if column is None:
                allowed = [self.may(role, "telemetry", (word,)) for role in range(len(self.names))]
                column = self._channels[word] = np.array([*allowed, False], bool)
            found[:, code] = column
        return found

    def metrics(self, role: Int32, decoded: Decoded) -> Int32:
        """The metric rule of each reading, by the role that it falls under."""
        return self._metrics.of(role, decoded)


class MetricRules:
    """Rules of metrics by number, and a table (role, code of the metric) that is filled as metrics are met."""

    def __init__(self, roles: list[Role]) -> None:
        low, high, refuse = [-np.inf, -np.inf], [np.inf, np.inf], [False, False]
        self._exact: list[dict[str, int]] = []
        self._prefixes: list[list[tuple[str, int]]] = []
        for role in roles:
            exact: dict[str, int] = {}
            prefixes: list[tuple[str, int]] = []
            for rule in role.metrics or ():
                number = DENY
                if not rule.deny:
                    number = len(low)
                    low.append(-np.inf if rule.min is None else rule.min)
                    high.append(np.inf if rule.max is None else rule.max)
                    refuse.append(rule.refuse)
                if rule.pattern.endswith("*"):
                    prefixes.append((rule.pattern[:-1], number))
                else:
                    exact[rule.pattern] = number
            self._exact.append(exact)
            self._prefixes.append(sorted(prefixes, key=lambda pair: -len(pair[0])))
        self.low: Float64 = np.array(low)
        self.high: Float64 = np.array(high)
        self.refuse: Bool = np.array(refuse, bool)
        closed = [role.metrics is not None for role in roles]
        self._fresh: Int32 = np.where([*closed, False], _UNRESOLVED, OPEN).astype(np.int32)
        self._generation = -1
        self._table: Int32 = self._columns(0)

    def _columns(self, count: int) -> Int32:
        """`count` columns of a table in which nothing is resolved yet but for roles that allow any metric."""
        return np.repeat(self._fresh[:, None], count, axis=1)

    def of(self, role: Int32, decoded: Decoded) -> Int32:
        if decoded.generation != self._generation:
            self._generation, self._table = decoded.generation, self._columns(0)
        if decoded.known > self._table.shape[1]:
            room = self._columns(2 * decoded.known - self._table.shape[1])
            self._table = np.concatenate([self._table, room], axis=1)
        table = self._table
        passing = len(decoded.names) - decoded.known
        if passing:
            table = np.concatenate([table[:, : decoded.known], self._columns(passing)], axis=1)
        found: Int32 = table.take(role * table.shape[1] + decoded.metric, mode="wrap")  # NO_ROLE finds the last row
        open_ = found == _UNRESOLVED
        if not open_.any():
            return found
        role_of, metric_of = role[open_], decoded.metric[open_]
        for r in set(role_of.tolist()):
            codes = np.unique(metric_of[role_of == r])
            table[r, codes] = self.resolve(r, [decoded.names[code] for code in codes.tolist()])
        if passing:
            self._table[:, : decoded.known] = table[:, : decoded.known]
        again: Int32 = table[role, decoded.metric]
        return again

    def resolve(self, role: int, metrics: list[str]) -> list[int]:
        """The rule that says most exactly of each: the name itself, else the longest pattern; DENY when none does."""
        exact, prefixes = self._exact[role], self._prefixes[role]
        found = []
        for metric in metrics:
            number = exact.get(metric)
            if number is None:
                for prefix, number in prefixes:  # noqa: B007
                    if metric.startswith(prefix):
                        break
                else:
                    number = DENY
            found.append(number)
        return found


def _column(values: list[int], none: int) -> Int64:
    return np.array([*values, none], np.int64)


def _limit_ms(seconds: int | None) -> int:
    return NO_LIMIT if seconds is None else seconds * 1000


def _burst_us(role: Role) -> int:
    return 0 if role.rate is None else min(NO_LIMIT, (role.burst_messages - 1) * role.rate.interval_us)


def _matches(pattern: str, branch: str, names: tuple[str, ...]) -> bool:
    own, *parts = pattern.split("/")
    return own == branch and all(p in ("*", name) for p, name in zip(parts, names, strict=True))


def nothing() -> Rules:
    """The rules while no policy is in force: nobody may say anything."""
    return Rules(Policy({}, None))
