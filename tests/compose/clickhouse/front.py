"""The local platform's ClickHouse front with the users that the server would find in users.d, known by their hashes."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

USERS_D = Path("/etc/clickhouse-server/users.d")
READERS = ("analyst", "grafana")
"""Confined to reading by the engine's role; the others' grants are tested elsewhere, with the engine's own roles."""

os.environ |= {"MILLRACE_FOLDER": "/var/lib/clickhouse", "MILLRACE_LISTEN": "0.0.0.0:8123"}

from local.clickhouse import __main__ as front  # noqa: E402 (settings are read at the import of nothing, but by main)
from local.clickhouse import users  # noqa: E402
from local.clickhouse.errors import ClickHouseError  # noqa: E402


def load(_folder: Path) -> dict[str, users.User]:
    """`password` is its SHA-256 here."""
    found = {}
    for file in sorted(USERS_D.glob("*.xml")):
        for user in ElementTree.parse(file).getroot().iterfind("users/*[password_sha256_hex]"):
            digest = (user.findtext("password_sha256_hex") or "").strip()
            found[user.tag] = users.User(user.tag, digest, "analyst" if user.tag in READERS else None)
    return found


def authenticate(known: Mapping[str, users.User], headers: Mapping[str, str], query: Mapping[str, str]) -> users.User:
    name, password = users._given(headers, query)
    user = known.get(name)
    given = hashlib.sha256(password.encode()).hexdigest()
    if user is None or not hmac.compare_digest(user.password, given):
        raise ClickHouseError(f"{name}: Authentication failed. (AUTHENTICATION_FAILED)", 516)
    return user


users.load, users.authenticate = load, authenticate
front.main()
