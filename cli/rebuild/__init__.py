"""`millrace rebuild`: a table made anew from its topic, and put in the place of the old one."""

from cli.rebuild.command import rebuild

__all__ = ["rebuild"]
