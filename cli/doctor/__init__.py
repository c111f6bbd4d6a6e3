"""`millrace doctor`: looks at a deployment from outside and says what is wrong and what to do."""

from cli.doctor.command import doctor

__all__ = ["doctor"]
