"""Names of metrics and their codes, bounded: a sender that invents names cannot fill the memory."""

from typing import Final

MAX_KNOWN: Final = 4096
"""Names that keep their code from batch to batch. Every other name gets one for its batch only."""


class Names:
    """`known` names keep their codes until `forget`; `code` gives other names a code that is gone with the batch."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self._codes: dict[str, int] = {}
        self._passing: dict[str, int] = {}

    def learn(self, name: str) -> int:
        """A code that lasts. Only while no passing code was given in this batch: the two are one row of numbers."""
        code = self._codes.get(name)
        if code is None:
            assert not self._passing, "a name was learned after a passing one"
            code = self._codes[name] = len(self.known)
            self.known.append(name)
        return code

    def code(self, name: str) -> int:
        """A code for this batch."""
        code = self._codes.get(name)
        if code is None:
            code = self._passing.setdefault(name, len(self.known) + len(self._passing))
        return code

    def all(self) -> list[str]:
        """The names of all codes given in this batch, and maybe of later ones: the list of known names only grows."""
        return [*self.known, *self._passing] if self._passing else self.known

    def next_batch(self) -> None:
        self._passing = {}

    def forget(self) -> None:
        self.known, self._codes, self._passing = [], {}, {}
