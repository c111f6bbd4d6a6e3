"""Who may come in: `millrace` may do everything, `analyst` reads the database `millrace`. Passwords are made once."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.clickhouse.errors import ClickHouseError

DATABASE: Final = "millrace"

ENGINE_CONFIG: Final = """\
<clickhouse>
  <users_config>{users_file}</users_config>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <background_pool_size>2</background_pool_size>
  <storage_configuration>
    <disks><default><keep_free_space_bytes>{keep_bytes}</keep_free_space_bytes></default></disks>
  </storage_configuration>
</clickhouse>
"""
_OWNERS_ONLY: Final = ("processes", "query_cache", "errors", "stack_trace", "user_processes", "warnings")
"""Tables of `system` that show other users' statements, or pieces of them. All sessions are of the engine's one user,
so grants cannot tell them apart; a row policy on the current role can."""
_POLICIES: Final = "".join(f"<{t}><filter>has(currentRoles(), 'admin')</filter></{t}>" for t in _OWNERS_ONLY)
ENGINE_USERS: Final = f"""\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <admin><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></admin>
    <analyst><grants><query>GRANT SELECT, SHOW ON {DATABASE}.*</query></grants></analyst>
  </roles>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <databases><system>{_POLICIES}</system></databases>
      <grants><query>GRANT admin</query><query>GRANT analyst</query></grants>
    </default>
  </users>
</clickhouse>
"""


@dataclass(frozen=True, slots=True)
class User:
    """`role`: the engine's role that the user is confined to; None: all rights. `limits`: settings that the user may
    lower and not raise. Of the password only a salted hash is held: 256 random bits need no slow one."""

    name: str
    salt: bytes
    digest: bytes
    role: str | None
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def reads_only(self) -> bool:
        return self.role is not None

    def accepts(self, password: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(self.salt, password))


def reader_limits(memory_bytes: int) -> dict[str, int]:
    """What one statement of a reader may use; as many as may run at once (settings) leave half of the memory."""
    return {
        "max_execution_time": 120,
        "max_memory_usage": memory_bytes // 8,
        "max_result_rows": 10_000_000,
        "max_result_bytes": memory_bytes // 8,
        "max_rows_to_read": 20_000_000_000,
        "max_temporary_data_on_disk_size_for_query": memory_bytes,
        "max_threads": 4,
        "max_block_size": 65_536,
    }


def make(name: str, password: str, role: str | None, limits: Mapping[str, int] | None = None) -> User:
    salt = secrets.token_bytes(16)
    return User(name, salt, _digest(salt, password), role, limits or {})


def load(folder: Path, memory_bytes: int) -> dict[str, User]:
    """The users, with passwords from NAME.password in `folder`; a file that is missing is made (mode 0600)."""
    return {
        "millrace": make("millrace", _password(folder, "millrace"), None),
        "analyst": make("analyst", _password(folder, "analyst"), "analyst", reader_limits(memory_bytes)),
    }


def write_configuration(folder: Path, memory_bytes: int, keep_bytes: int) -> None:
    """Make the engine's own files in `folder`/etc, which the engine may read. They hold no secret.

    With fewer than `keep_bytes` free on the disk inserts and merges are refused.
    """
    etc = folder / "etc"
    etc.mkdir(parents=True, exist_ok=True, mode=0o700)
    (etc / "users.xml").write_text(ENGINE_USERS)
    given = {"memory_bytes": memory_bytes, "keep_bytes": keep_bytes, "users_file": etc / "users.xml"}
    (etc / "config.xml").write_text(ENGINE_CONFIG.format(**given))
    for former in ("users.xml", "config.xml"):
        (folder / former).unlink(missing_ok=True)


def _digest(salt: bytes, password: str) -> bytes:
    return hashlib.sha256(salt + password.encode()).digest()


def _password(folder: Path, name: str) -> str:
    file = folder / f"{name}.password"
    if not file.exists():
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(secrets.token_urlsafe(32))
        new.rename(file)
    return file.read_text().strip()


def _given(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return name, password
    name = headers.get("x-clickhouse-user", query.get("user", "default"))
    return name, headers.get("x-clickhouse-key", query.get("password", ""))


_NOBODY: Final = make("", secrets.token_urlsafe(32), "analyst")


def authenticate(users: Mapping[str, User], headers: Mapping[str, str], query: Mapping[str, str]) -> User:
    """The user of a request: Basic, X-ClickHouse-User and -Key, or user= and password=. Raises ClickHouseError."""
    name, password = _given(headers, query)
    user = users.get(name, _NOBODY)
    if not user.accepts(password) or user is _NOBODY:
        raise ClickHouseError(
            f"{name[:100]}: Authentication failed: password is incorrect, or there is no user with such name."
            " (AUTHENTICATION_FAILED)",
            516,
        )
    return user
