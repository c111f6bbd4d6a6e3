"""Errors of operations that are not of a dependency (runtime/errors.py has those)."""

from runtime.errors import MillraceError


class InvalidArgumentError(MillraceError):
    """The caller asked for something that cannot be: nothing was done."""
