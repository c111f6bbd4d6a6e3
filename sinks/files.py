"""The files of sinks/migrations."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import RefusedError

FOLDER: Final = Path(__file__).parent / "migrations"
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()[:16]


def migrations() -> list[Migration]:
    """All files of sinks/migrations in order. Raises RefusedError where two have one number."""
    files = sorted(FOLDER.iterdir(), key=lambda f: f.name)
    found = [Migration(f.name, f.read_text()) for f in files if _NAME.fullmatch(f.name)]
    numbers = [m.name[:4] for m in found]
    if len(set(numbers)) != len(numbers):
        raise RefusedError(f"two migrations have one number: {', '.join(m.name for m in found)}")
    return found
