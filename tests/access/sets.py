"""Which (boot, seq) were seen, as sets."""

from streams.access.core.runs import MAX_BOOTS, MAX_INTERVALS, Fresh


class SetOfOneBoot:
    """What was missing is a set of numbers; its intervals are counted by looking at neighbours."""

    def __init__(self) -> None:
        self.highest, self.closed = -1, -1
        self.missing: set[int] = set()
        self.given_up = 0

    def take(self, seq: int) -> Fresh:
        if seq > self.highest:
            self.missing |= set(range(self.highest + 1, seq))
            self.highest = seq
        elif seq <= self.closed:
            return Fresh.SEQ_CLOSED
        elif seq not in self.missing:
            return Fresh.REPEAT
        self.missing.discard(seq)
        while sum(n - 1 not in self.missing for n in self.missing) > MAX_INTERVALS:
            last = min(n for n in self.missing if n + 1 not in self.missing)
            gone = {n for n in self.missing if n <= last}
            self.missing -= gone
            self.given_up += len(gone)
            self.closed = last
        return Fresh.NEW


class SetsOfDevice:
    def __init__(self) -> None:
        self.boots: dict[int, SetOfOneBoot] = {}
        self.given_up = 0

    def take(self, boot: int, seq: int) -> Fresh:
        if boot not in self.boots:
            if len(self.boots) == MAX_BOOTS and boot < min(self.boots):
                return Fresh.OLD_BOOT
            self.boots[boot] = SetOfOneBoot()
            if len(self.boots) > MAX_BOOTS:
                gone = self.boots.pop(min(self.boots))
                self.given_up += len(gone.missing)
        one = self.boots[boot]
        before = one.given_up
        fresh = one.take(seq)
        self.given_up += one.given_up - before
        return fresh
