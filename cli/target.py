"""Which platform a command speaks to: chosen once, from the option, the environment and the folder, never guessed.

    --data DIR                 DIR/run/env, whatever the environment says of addresses
    $MILLRACE_DATA             the same folder, if no address in the environment contradicts it
    ./data                     the same, if it is a platform's folder; an environment with other addresses beats it
    MILLRACE_KAFKA_BOOTSTRAP … the environment alone, as in a container

Addresses of two platforms are never mixed. There is no default address.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local import status
from runtime.errors import MillraceError
from runtime.settings import PREFIX, SettingsError

DATA_ENV: Final = PREFIX + "DATA"
FILE_ENV: Final = PREFIX + "SETTINGS_FILE"
HERE: Final = Path("data")
META: Final = "millrace.target"
"""Where click's context keeps the target of the command that runs."""

KAFKA: Final = PREFIX + "KAFKA_BOOTSTRAP"
CLICKHOUSE: Final = PREFIX + "CLICKHOUSE_URL"
PLACES: Final = (
    KAFKA,
    CLICKHOUSE,
    *(
        PREFIX + name
        for name in (
            "KAFKA_SECURITY", "CLICKHOUSE_PASSWORD_FILE", "ANALYST_URL", "ANALYST_PASSWORD_FILE",
            "DEVICE_MQTT_URL", "DEVICE_MQTTS_URL", "DEVICE_HTTP_URL", "CA_FILE",
        )
    ),
)  # fmt: skip
"""Settings that say where a platform is and with which key it opens. They all come from one source."""


class NoPlatformError(MillraceError):
    """No platform was named, or the folder that was named holds none."""


class TwoPlatformsError(MillraceError):
    """The folder and the environment name two platforms."""


@dataclass(frozen=True, slots=True)
class Target:
    """A platform. `folder`: its data folder, or where certificates lie; `values`: every MILLRACE_… in effect;
    `origin`: where its addresses come from."""

    folder: Path
    values: Mapping[str, str]
    origin: str

    def __str__(self) -> str:
        found = (("Kafka", KAFKA), ("ClickHouse", CLICKHOUSE))
        where = ", ".join(f"{what} {_shown(self.values[name])}" for what, name in found if name in self.values)
        return f"the platform of {self.origin}" + (f" ({where})" if where else "")


def _shown(address: str) -> str:
    """Without the password that a URL may hold."""
    scheme, sign, rest = address.rpartition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{sign}{user.partition(':')[0]}{at}{host}"


def find(option: Path | None, environment: Mapping[str, str], here: Path = HERE) -> Target:
    """The platform meant by `--data` (None: not given) and the environment. Raises NoPlatformError, TwoPlatformsError,
    SettingsError."""
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if option is not None:
        return in_folder(option, own)
    places = {name: own[name] for name in PLACES if own.get(name)}
    if own.get(DATA_ENV):
        return _named(Path(own[DATA_ENV]), own, places)
    if is_platform(here):
        found = in_folder(here, own)
        if not _contradictions(places, found):
            return Target(here, {**found.values, **own}, found.origin)
    if places or own.get(FILE_ENV):
        return Target(_beside_authority(places), own, "the environment")
    raise NoPlatformError(
        f"no platform is named: there is none in {here.resolve()}. Give --data DIR, set {DATA_ENV}, or start one with"
        " `millrace up`"
    )


def in_folder(folder: Path, own: Mapping[str, str]) -> Target:
    """The platform of a data folder. What `own` says of addresses is left out."""
    if not is_platform(folder):
        raise NoPlatformError(f"there is no platform in {folder.resolve()}: `millrace up --data {folder}` starts one")
    kept = {name: value for name, value in own.items() if name not in (*PLACES, FILE_ENV)}
    return Target(folder, kept | _read(_file(folder)), str(folder.resolve()))


def is_platform(folder: Path) -> bool:
    """Whether `millrace up` has run on this folder."""
    return _file(folder).is_file()


def _named(folder: Path, own: Mapping[str, str], places: Mapping[str, str]) -> Target:
    if not is_platform(folder):
        if not places and not own.get(FILE_ENV):
            raise NoPlatformError(
                f"{DATA_ENV}={folder}: there is no platform: `millrace up --data {folder}` starts one"
            )
        return Target(folder, own, "the environment")
    found = in_folder(folder, own)
    wrong = _contradictions(places, found)
    if wrong:
        listed = "; ".join(f"{name} is {places[name]}, in {_file(folder)} {found.values.get(name)}" for name in wrong)
        raise TwoPlatformsError(
            f"{DATA_ENV}={folder} and the environment name two platforms: {listed}. Unset one of them, or give --data"
        )
    return Target(folder, {**found.values, **own}, found.origin)


def _contradictions(places: Mapping[str, str], found: Target) -> list[str]:
    return [name for name, value in places.items() if found.values.get(name) != value]


def _beside_authority(places: Mapping[str, str]) -> Path:
    """The folder of the device authority named by MILLRACE_CA_FILE (FOLDER/identity/ca.crt), else the current one."""
    file = places.get(PREFIX + "CA_FILE")
    return Path(file).parent.parent if file else Path()


def _file(folder: Path) -> Path:
    return folder / "run" / "env"


def _read(file: Path) -> dict[str, str]:
    try:
        return status.parsed_environment(file.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError([f"{file} cannot be read: {error}"]) from None
