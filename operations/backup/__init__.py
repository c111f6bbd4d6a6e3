"""ClickHouse's tables and platform.control as files, and back."""

from operations.backup.restore import RestoreResult, restore
from operations.backup.save import BackupResult, backup
from operations.backup.settings import BackupSettings

__all__ = ["BackupResult", "BackupSettings", "RestoreResult", "backup", "restore"]
