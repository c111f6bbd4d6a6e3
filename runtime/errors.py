"""Errors carry policy: what a service does about one is decided by its class, not where it is caught."""

from typing import Final

EXIT_SETTINGS: Final = 64
"""Bad settings: restarting will not help."""
EXIT_FATAL: Final = 70
"""Anything unexpected: nothing half-applied lives on; the supervisor restarts the process."""
EXIT_REFUSED: Final = 78
"""What is stored does not match this process (another topic, a gap, a newer schema): an operator has to decide."""


class MillraceError(Exception):
    """Base of all errors raised on purpose."""


class RetryableError(MillraceError):
    """A dependency is unavailable or slow: back off and retry. Nothing was lost."""


class FatalError(MillraceError):
    """Going on could lose or double: exit at once with `exit_code` and one clear line."""

    exit_code = EXIT_FATAL


class RefusedError(FatalError):
    """A restart meets the same: say what is wrong and what to do, and stay down."""

    exit_code = EXIT_REFUSED
