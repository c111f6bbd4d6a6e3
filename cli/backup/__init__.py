"""`millrace backup` and `millrace restore`: ClickHouse's tables and platform.control, as files and back."""

from cli.backup.command import backup, restore

__all__ = ["backup", "restore"]
