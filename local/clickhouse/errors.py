"""Errors as ClickHouse formats them, `Code: N. DB::Exception: text. (NAME)`, and an HTTP status for each code."""

import re
from typing import Final

_CODE = re.compile(r"Code: (\d+)\.")
UNKNOWN: Final = 1002

_STATUS: Final[dict[int, int]] = {
    516: 403,  # AUTHENTICATION_FAILED
    497: 403,  # ACCESS_DENIED
    164: 403,  # READONLY
    48: 501,  # NOT_IMPLEMENTED
    159: 408,  # TIMEOUT_EXCEEDED
    209: 408,  # SOCKET_TIMEOUT
    307: 413,  # TOO_MANY_BYTES
    202: 503,  # TOO_MANY_SIMULTANEOUS_QUERIES
    **dict.fromkeys(
        (46, 47, 50, 56, 60, 73, 81, 115), 404
    ),  # unknown function, column, type, table, format, database, …
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 131, 167, 168, 452, 456, 457), 400),
}


class ClickHouseError(Exception):
    """An error of a statement or a request. `code` is ClickHouse's, `status` that of the HTTP response."""

    def __init__(self, text: str, code: int | None = None) -> None:
        found = _CODE.search(text)
        self.code = code if code is not None else int(found.group(1)) if found else UNKNOWN
        start = text.find("Code: ")
        super().__init__((text[start:] if start >= 0 else f"Code: {self.code}. DB::Exception: {text}").strip())

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)


def syntax(text: str) -> ClickHouseError:
    return ClickHouseError(f"Syntax error: {text}. (SYNTAX_ERROR)", 62)


def denied(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text}. (ACCESS_DENIED)", 497)


def memory(text: str) -> ClickHouseError:
    return ClickHouseError(f"Memory limit exceeded: {text}. (MEMORY_LIMIT_EXCEEDED)", 241)


def too_large(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text}. (TOO_MANY_BYTES)", 307)


def busy(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text}. (TOO_MANY_SIMULTANEOUS_QUERIES)", 202)


def slow(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text}. (SOCKET_TIMEOUT)", 209)


def readonly(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text}. (READONLY)", 164)


def unsupported(text: str) -> ClickHouseError:
    return ClickHouseError(f"{text} is not supported by the local engine. (NOT_IMPLEMENTED)", 48)
