"""Versions of a policy, or of a stage's settings: those that ClickHouse keeps, every one that ever came into force."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from runtime.clickhouse.client import ClickHouse
from runtime.errors import MillraceError

_POLICIES: Final = """
SELECT version_epoch, version_offset, min(append_time), any(policy) FROM policies
GROUP BY version_epoch, version_offset ORDER BY version_epoch DESC, version_offset DESC"""
_SETTINGS: Final = """
SELECT version_epoch, version_offset, min(append_time), any(settings) FROM stage_settings
WHERE stage = {stage:String}
GROUP BY version_epoch, version_offset ORDER BY version_epoch DESC, version_offset DESC"""


class NoVersionError(MillraceError):
    """There is no such version, or ClickHouse does not have it yet."""


@dataclass(frozen=True, slots=True)
class Version:
    """`epoch`/`offset` of platform.control names it; `since`: when the first partition had it in force."""

    epoch: int
    offset: int
    since: datetime
    value: bytes

    def __str__(self) -> str:
        return f"{self.epoch}/{self.offset}"


class VersionName(click.ParamType):
    """EPOCH/OFFSET, as `apply` and `history` print it."""

    name = "VERSION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        epoch, slash, offset = str(value).partition("/")
        if not (slash and epoch.isdecimal() and offset.isdecimal()):
            self.fail(f"{value!r} is no version: expected EPOCH/OFFSET, as `history` prints it", param, ctx)
        return int(epoch), int(offset)


argument = click.argument("version", type=VersionName())
option = click.option("--version", type=VersionName(), help="An earlier one, as `history` lists them.")


def of_policy(db: ClickHouse) -> list[Version]:
    """Newest first."""
    return list(_read(db, _POLICIES, {}))


def of_settings(db: ClickHouse, stage: str) -> list[Version]:
    """Newest first."""
    return list(_read(db, _SETTINGS, {"stage": stage}))


def named(found: list[Version], name: tuple[int, int], noun: str) -> Version:
    """Raises NoVersionError."""
    for version in found:
        if (version.epoch, version.offset) == name:
            return version
    raise NoVersionError(
        f"there is no version {name[0]}/{name[1]}: `millrace {noun} history` lists them (one that was published within"
        " the last seconds comes with the next rows)"
    )


def _read(db: ClickHouse, query: str, parameters: Mapping[str, Any]) -> Iterator[Version]:
    for epoch, offset, since, text in db.rows(query, parameters):
        yield Version(int(epoch), int(offset), since.replace(tzinfo=UTC), str(text).encode())
