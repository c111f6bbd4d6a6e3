"""`millrace correct`: readings that an old decoder got wrong, read anew from telemetry.raw."""

from cli.correct.command import correct

__all__ = ["correct"]
