"""Who may come in: `millrace` may do everything, `analyst` reads the database `millrace`. Passwords are made once."""

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.clickhouse.errors import ClickHouseError

DATABASE: Final = "millrace"

ENGINE_CONFIG: Final = """\
<clickhouse>
  <users_config>{users_file}</users_config>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <background_pool_size>2</background_pool_size>
</clickhouse>
"""
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
      <grants><query>GRANT admin</query><query>GRANT analyst</query></grants>
    </default>
  </users>
</clickhouse>
"""


@dataclass(frozen=True, slots=True)
class User:
    """`role`: the engine's role that the user is confined to; None: all rights."""

    name: str
    password: str
    role: str | None

    @property
    def reads_only(self) -> bool:
        return self.role is not None


def load(folder: Path) -> dict[str, User]:
    """The users, with passwords from NAME.password in `folder`; a file that is missing is made (mode 0600)."""
    return {
        name: User(name, _password(folder, name), role) for name, role in (("millrace", None), ("analyst", "analyst"))
    }


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


def authenticate(users: Mapping[str, User], headers: Mapping[str, str], query: Mapping[str, str]) -> User:
    """The user of a request: Basic, X-ClickHouse-User and -Key, or user= and password=. Raises ClickHouseError."""
    name, password = _given(headers, query)
    user = users.get(name)
    expected = user.password if user else secrets.token_urlsafe(32)
    if not hmac.compare_digest(expected.encode(), password.encode()) or user is None:
        raise ClickHouseError(
            f"{name}: Authentication failed: password is incorrect, or there is no user with such name."
            " (AUTHENTICATION_FAILED)",
            516,
        )
    return user
