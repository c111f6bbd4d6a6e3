"""Answers that are read while the server still works: a stream that was cut must not look like one that ended.

ClickHouse has sent status 200 before it knows whether the query will succeed. An exception comes as text behind valid
blocks, between marks that carry the tag of the header X-ClickHouse-Exception-Tag (25.11 and later; before, as plain
text), and the chunked encoding is cut off. An Arrow stream ends with a mark of its own, and only that proves the end:
pyarrow takes the end of the bytes at a message's border for the end of the stream.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
from urllib3.exceptions import HTTPError

from runtime.clickhouse.errors import translate
from runtime.errors import MillraceError

_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""End of an Arrow IPC stream: a continuation marker and the length 0."""
_PIECE_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 16
"""Where the text of an exception is looked for: ClickHouse limits it to 16 KiB."""
_EXCEPTION: Final = re.compile(rb"Code: (\d+)\. DB::Exception: .*?(?=\n\d+ \w+\r\n__exception__|\Z)", re.DOTALL)


class _File:
    """A response of urllib3's as a file for pyarrow. `seen`: the last bytes that came, read or not."""

    def __init__(self, answer: Any) -> None:
        self._pieces: Iterator[bytes] = answer.stream(_PIECE_BYTES)
        self._waiting = bytearray()
        self.seen = b""
        self.closed = False

    def more(self) -> bool:
        """Wait for the next piece; False at the end. Raises HTTPError where the response is cut off."""
        piece = next(self._pieces, b"")
        self._waiting += piece
        self.seen = (self.seen + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return bool(piece)

    def read(self, size: int) -> bytes:
        while len(self._waiting) < size and self.more():
            pass
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def arrow_batches(answer: Any, what: str) -> Iterator[pa.RecordBatch]:
    """The batches of an ArrowStream response of urllib3's; one without rows where there are none.

    Raises the server's exception, translated, or RetryableError when the stream has no end.
    """
    file, none_yet = _File(answer), True
    try:
        try:
            with pa.ipc.open_stream(file) as reader:
                for batch in reader:
                    none_yet = False
                    yield batch
                schema = reader.schema
        except (pa.ArrowInvalid, HTTPError, OSError) as error:
            raise _broken(file, what, error) from error
        if not file.seen.endswith(_END) or file.more():
            raise _broken(file, what, EOFError("the end marker is missing"))
    finally:
        answer.close()
    if none_yet:
        yield from schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema)]


def _broken(file: _File, what: str, cause: Exception) -> MillraceError:
    """The error of a stream that broke off: the server's exception if its text came, else the `cause`."""
    # a cut of the chunked encoding comes behind the text
    with contextlib.suppress(HTTPError, OSError):
        while file.more():
            pass
    found = _EXCEPTION.search(file.seen)
    if found is None:
        return translate(EOFError(f"the response ended prematurely: {cause}"), None, what)
    return translate(RuntimeError(found[0].decode(errors="replace")), int(found[1]), what)
