"""Users of a ClickHouse server and what each may do, as files for its users.d; one file a user.

    owner     `millrace init`: makes and changes tables
    sink      writes the tables, and reads them where it must look what is there
    analyst   reads, within limits of memory, time and rows
    grafana   reads, within narrower ones
    watch     reads, and asks about disks and parts
    notify    reads incidents

`owner` is who the tables belong to; whoever holds a service's password can do no more than that service.
"""

from dataclasses import dataclass
from typing import Final

DATABASE: Final = "millrace"


@dataclass(frozen=True, slots=True)
class User:
    """`room`: the folder of keys of the service that uses it. `settings` hold for its queries and it cannot change
    them when it is `readonly`."""

    name: str
    room: str
    grants: tuple[str, ...]
    settings: tuple[tuple[str, int], ...] = ()

    @property
    def readonly(self) -> bool:
        return bool(self.settings)


USERS: Final = (
    User("owner", "init", (f"GRANT ALL ON {DATABASE}.*", "GRANT SELECT ON system.*")),
    User(
        "sink",
        "sink",
        (f"GRANT SELECT, INSERT ON {DATABASE}.*", "GRANT CREATE TEMPORARY TABLE ON *.*", "GRANT SELECT ON system.*"),
    ),
    User(
        "analyst",
        "operator",
        (
            f"GRANT SELECT ON {DATABASE}.*",
            *(f"GRANT SELECT ON system.{name}" for name in ("tables", "columns", "disks", "parts", "merges")),
        ),
        (
            ("max_memory_usage", 4_000_000_000),
            ("max_execution_time", 120),
            ("max_result_rows", 10_000_000),
            ("max_rows_to_read", 20_000_000_000),
        ),
    ),
    User(
        "grafana",
        "grafana",
        (f"GRANT SELECT ON {DATABASE}.*", "GRANT SELECT ON system.tables", "GRANT SELECT ON system.columns"),
        (
            ("max_memory_usage", 1_000_000_000),
            ("max_execution_time", 20),
            ("max_result_rows", 100_000),
            ("max_rows_to_read", 2_000_000_000),
        ),
    ),
    User(
        "watch",
        "watch",
        (f"GRANT SELECT ON {DATABASE}.*", "GRANT SELECT ON system.disks", "GRANT SELECT ON system.parts"),
        (("max_memory_usage", 2_000_000_000), ("max_execution_time", 20)),
    ),
    User(
        "notify",
        "notify",
        (f"GRANT SELECT ON {DATABASE}.incidents", f"GRANT SELECT ON {DATABASE}.incidents_current"),
        (("max_memory_usage", 1_000_000_000), ("max_execution_time", 20)),
    ),
)


def document(name: str, password_sha256: str) -> str:
    """The file of users.d for the user `name`. The server's own user `default` goes."""
    user = next(user for user in USERS if user.name == name)
    limits = "".join(f"      <{key}>{value}</{key}>\n" for key, value in user.settings)
    if user.readonly:
        limits += "      <readonly>2</readonly>\n      <constraints>\n"
        limits += "".join(f"        <{key}><max>{value}</max></{key}>\n" for key, value in user.settings)
        limits += "      </constraints>\n"
    grants = "".join(f"        <query>{grant}</query>\n" for grant in user.grants)
    return f"""<clickhouse>
  <profiles>
    <{name}>
{limits}    </{name}>
  </profiles>
  <users>
    <default remove="remove"/>
    <{name}>
      <password_sha256_hex>{password_sha256}</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>{name}</profile>
      <quota>default</quota>
      <grants>
{grants}      </grants>
    </{name}>
  </users>
</clickhouse>
"""
