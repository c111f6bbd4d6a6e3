"""Exit codes of every command, and what is printed for every failure that is expected: a line for each mistake."""

import sys
from enum import IntEnum

import click

from cli.target import NoPlatformError, TwoPlatformsError
from operations.errors import InvalidArgumentError
from runtime.errors import MillraceError, RetryableError
from runtime.settings import SettingsError
from schemas.errors import ContractError


class Exit(IntEnum):
    """docs/cli.md explains them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    BUG = 70
    NOT_YET = 75
    CONFIG = 78
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class NotInForceError(MillraceError):
    """The change is stored, and not yet in force: the message says how to see when it is."""


class ClosedPipeError(MillraceError):
    """Whoever read the output has seen enough."""


def explain(error: BaseException) -> tuple[Exit, list[str]] | None:
    """Exit code and lines; None for what nobody expects, which is a bug."""
    found = _ended(error) or _ours(error) or _clients(error)
    if found is None:
        return None
    code, text = found
    return code, [line for line in text.splitlines() if line.strip()]


def _ended(error: BaseException) -> tuple[Exit, str] | None:
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Exit.INTERRUPTED, "interrupted"
    if isinstance(error, ClosedPipeError):
        return Exit.CLOSED_PIPE, ""
    return None


def _ours(error: BaseException) -> tuple[Exit, str] | None:
    match error:
        case SettingsError() | NoPlatformError() | TwoPlatformsError():
            return Exit.CONFIG, str(error)
        case InvalidArgumentError():
            return Exit.USAGE, str(error)
        case NotInForceError():
            return Exit.NOT_YET, str(error)
        case RetryableError():
            return Exit.UNAVAILABLE, str(error)
        case MillraceError() | ContractError():
            return Exit.FAILED, str(error)
    return None


def _clients(error: BaseException) -> tuple[Exit, str] | None:
    """What libraries raise. They are not imported for it: what was never imported cannot have raised."""
    if isinstance(error, _of("confluent_kafka", "KafkaException")):
        cause = error.args[0] if error.args else error
        return Exit.UNAVAILABLE, f"Kafka: {cause.str() if hasattr(cause, 'str') else cause}"
    if isinstance(error, _of("clickhouse_connect.driver.exceptions", "ClickHouseError")):
        return Exit.FAILED, f"ClickHouse: {' '.join(str(error).split())[:500]}"
    if isinstance(error, (*_of("urllib3.exceptions", "HTTPError"), *_of("aiohttp", "ClientError"))):
        return Exit.UNAVAILABLE, " ".join(str(error).split())[:500]
    if isinstance(error, (ConnectionError, TimeoutError)):
        return Exit.UNAVAILABLE, f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Exit.FAILED, f"{where}{error.strerror or error}"
    return None


def _of(module: str, name: str) -> tuple[type[BaseException], ...]:
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()
