"""Why a request is refused. Each refusal is one status, one sentence for people, and the place of the error if any."""

from typing import Any, Final

from runtime.errors import MillraceError

RETRY_AFTER_S: Final = 2
"""Told to a client that came while we could not take more; clients should add a random part of their own."""


class Refusal(MillraceError):
    """A request that is not taken: nothing of it was counted as received.

    `place` says where in the body the error is: `line` (from 1), `column` (characters, from 1), `byte` (from 0, after
    content-encoding was undone).
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None, **place: int) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}
        self.place = place

    def body(self) -> dict[str, Any]:
        return {"error": str(self), **self.place}


def broken(text: str, **place: int) -> Refusal:
    """400: not even syntax."""
    return Refusal(400, text, None, **place)


def too_large(text: str, **place: int) -> Refusal:
    return Refusal(413, text, None, **place)


def unsupported(text: str, **headers: str) -> Refusal:
    return Refusal(415, text, {key.replace("_", "-"): value for key, value in headers.items()})


def too_many(text: str, retry_after_s: int = RETRY_AFTER_S) -> Refusal:
    """429: this device asks for too much."""
    return Refusal(429, text, {"Retry-After": str(retry_after_s)})


def unavailable(text: str, retry_after_s: int = RETRY_AFTER_S) -> Refusal:
    """503: the bridge cannot take more now, from any device."""
    return Refusal(503, text, {"Retry-After": str(retry_after_s)})
