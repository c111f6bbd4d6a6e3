"""The local platform's ClickHouse front with the users that the server would find in users.d, known by their hashes."""

import os
from pathlib import Path
from xml.etree import ElementTree

USERS_D = Path("/etc/clickhouse-server/users.d")
READERS = ("analyst", "grafana")
"""Confined to reading by the engine's role; the others' grants are tested elsewhere, with the engine's own roles."""

os.environ |= {
    "MILLRACE_FOLDER": "/var/lib/clickhouse",
    "MILLRACE_LISTEN": "0.0.0.0:8123",
    "MILLRACE_UNCONFINED_READERS": "true",
}

from local.clickhouse import __main__ as front  # noqa: E402 (settings are read at the import of nothing, but by main)
from local.clickhouse import users  # noqa: E402


def load(_folder: Path, memory_bytes: int) -> dict[str, users.User]:
    """By the server's hashes, which have no salt."""
    found = {}
    for file in sorted(USERS_D.glob("*.xml")):
        for user in ElementTree.parse(file).getroot().iterfind("users/*[password_sha256_hex]"):
            digest = (user.findtext("password_sha256_hex") or "").strip()
            role = "analyst" if user.tag in READERS else None
            limits = users.reader_limits(memory_bytes) if role else {}
            found[user.tag] = users.User(user.tag, b"", bytes.fromhex(digest), role, limits)
    return found


users.load = load
front.main()
