"""ClickHouse's errors as policy: what a retry may heal, and what only an operator can."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from runtime.errors import FatalError, MillraceError, RetryableError

RETRYABLE_CODES: Final = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE: the connection broke in the middle
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR: the disk is full, or was for a moment
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY: a server in maintenance
        198,  # DNS_ERROR: a node of the cluster whose container is down
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY: a replica without its keeper
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS: merges have to catch up
        279,  # ALL_CONNECTION_TRIES_FAILED: a shard is down
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED: a server that stops
        425,  # SYSTEM_ERROR
        517,  # CANNOT_ASSIGN_ALTER: another replica's is under way
        999,  # KEEPER_EXCEPTION
    }
)


def translate(error: Exception, code: int | None, what: str) -> MillraceError:
    """The policy for an error that ClickHouse's client raised. No code: the server was not reached or broke off."""
    text = " ".join(str(error).split())[:500]
    if code is None or code in RETRYABLE_CODES:
        return RetryableError(f"{what}: {text}")
    return FatalError(f"{what}: ClickHouse rejects it, and would reject a retry: {text}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise RetryableError or FatalError for whatever ClickHouse's client raises."""
    try:
        yield
    except ClickHouseError as error:
        raise translate(error, getattr(error, "code", None), what) from error
    except (HTTPError, OSError) as error:
        raise translate(error, None, what) from error
