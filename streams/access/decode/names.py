"""Names of metrics and their codes, bounded: a sender that invents names cannot fill the memory."""

from collections.abc import Iterable
from typing import Final

MAX_KNOWN: Final = 4096
"""Names that keep their code from batch to batch. Every other name gets one for its batch only."""
_MAX_LEARNED_A_BATCH: Final = 64


class Names:
    """`known` names keep their codes until `forget`; other names have codes that are gone with the batch. A name that
    passes in two batches in a row is learned."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.known: list[str] = []
        self._codes: dict[str, int] = {}
        self._passing: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def next_batch(self) -> None:
        again = [name for name in self._passing if name in self._before]
        self._before, self._passing = self._passing, {}
        for name in again[:_MAX_LEARNED_A_BATCH]:
            self.learn(name)

    def learn(self, name: str) -> int:
        """A code that lasts. Only before `codes` was called in this batch: passing codes follow the known ones."""
        code = self._codes.get(name)
        if code is None:
            assert not self._passing, "a name was learned after a passing one"
            code = self._codes[name] = len(self.known)
            self.known.append(name)
        return code

    def codes(self, names: Iterable[str]) -> list[int]:
        """Codes for this batch."""
        known, passing, first = self._codes.get, self._passing, len(self.known)
        return [
            code if (code := known(name)) is not None else passing.setdefault(name, first + len(passing))
            for name in names
        ]

    def all(self) -> list[str]:
        """The names of all codes given in this batch, and maybe of later ones: the list of known names only grows."""
        return [*self.known, *self._passing] if self._passing else self.known
