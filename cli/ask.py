"""Questions before a change that cannot be taken back."""

import sys

import click

from runtime.errors import MillraceError


class NotConfirmedError(MillraceError):
    """Whoever was asked said no, or nobody could be asked."""


def confirm(question: str, yes: bool) -> None:
    """Go on if `yes` (the option --yes) or the operator says so. Raises NotConfirmedError otherwise, and without a
    terminal: nobody could answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmedError(f"{question} There is no terminal for confirmation: use --yes. Nothing was changed")
    if not click.confirm(question, err=True):
        raise NotConfirmedError("nothing was changed")
