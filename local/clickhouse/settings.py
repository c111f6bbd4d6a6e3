"""Settings of the ClickHouse front."""

from dataclasses import dataclass
from pathlib import Path

from runtime.settings import setting


@dataclass(frozen=True)
class Settings:
    folder: Path = setting(doc="where data, passwords and the engine's configuration are")
    listen: str = setting("127.0.0.1:8123", doc="host:port; keep it on the loopback: the engine trusts its host")
    workers: int = setting(12, doc="requests that the engine works on at the same time", low=1, high=100)
    readers: int = setting(4, doc="of those, statements of users who only read", low=1, high=100)
    unconfined_readers: bool = setting(
        False, doc="serve users who only read where the kernel cannot confine the engine: they can read files"
    )
    memory_bytes: int = setting(4 << 30, doc="what all queries together may use", low=256 << 20)
    log_level: str = setting("info", doc="lowest level logged", choices=("debug", "info", "warning", "error"))
