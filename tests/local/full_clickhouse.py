"""`python -m tests.local.full_clickhouse FOLDER INSERTS`: inserts while the disk of the local ClickHouse is filled.

Runs in a mount namespace (tests/support/namespace.py). Each insert is retried until it is acknowledged, as the sink
does: the first time with a token alone, later for the rows that are missing. At the end every row is there once.
"""

import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from local.clickhouse.room import FULL_EXIT
from local.disks import space
from tests.local.full_disks import fill
from tests.servers import ClickHouseServer

ROWS: Final = 200
_TABLE: Final = """CREATE TABLE IF NOT EXISTS numbers (n UInt32, row UInt32, device String, value Float64,
PROJECTION by_device (SELECT device, n, count() GROUP BY device, n)) ENGINE = MergeTree ORDER BY (n, row)
SETTINGS non_replicated_deduplication_window = 1000"""


class Run:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = ClickHouseServer(folder)
        self._random = random.Random(1)
        self.ended = 0
        """How often the full disk ended the engine."""

    def start(self) -> None:
        self._server.start()
        self._client = clickhouse_connect.get_client(
            host=self._server.host,
            port=self._server.port,
            username="millrace",
            password=self._server.password,
            database="millrace",
            autogenerate_session_id=False,
        )

    def _again(self) -> None:
        """Make room; start the engine if it has ended."""
        for name in ("ballast", "base"):
            (self._folder / name).unlink(missing_ok=True)
        process = self._server.process
        assert process is not None
        if process.exit_code() is not None:
            assert process.exit_code() == FULL_EXIT, process.exit_code()
            self.ended += 1
            self.start()

    def insert(self, n: int) -> None:
        """One insert, during which the disk becomes full at a random moment, and its retries with room."""
        (self._folder / "base").write_bytes(bytes(max(0, space(self._folder).free - (6 << 20))))
        filler = threading.Timer(self._random.random() * 0.012, fill, [self._folder])
        filler.start()
        acknowledged = self._try(n, first=True)
        filler.join()
        while not acknowledged:
            self._again()
            acknowledged = self._try(n, first=False)
        self._again()

    def _try(self, n: int, first: bool) -> bool:
        known = "" if first else f"WHERE (n, row) NOT IN (SELECT n, row FROM numbers WHERE n = {n})"
        sql = f"INSERT INTO numbers SELECT {n} AS n, number AS row, 'd' || row % 50, row FROM numbers({ROWS}) {known}"
        try:
            self._client.command(sql, settings={"insert_deduplication_token": str(n)})
        except (ClickHouseError, OSError):
            return False
        return True

    def check(self, inserts: int) -> None:
        sql = "SELECT n, count(), uniqExact(row), sum(value) FROM numbers GROUP BY n ORDER BY n"
        found = self._client.query(sql).result_rows
        right = [(n, ROWS, ROWS, ROWS * (ROWS - 1) / 2) for n in range(inserts)]
        assert found == right, [row for row in found if row not in right] or len(found)
        by_device = "SELECT sum(c) FROM (SELECT device, n, count() AS c FROM numbers GROUP BY device, n)"
        assert self._client.query(by_device).result_rows == [(inserts * ROWS,)]
        self._client.command("OPTIMIZE TABLE numbers FINAL")
        assert self._client.query(sql).result_rows == right

    def stop(self) -> None:
        self._server.kill()


def main() -> None:
    folder, inserts = Path(sys.argv[1]), int(sys.argv[2])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=0700", "full-disk", folder], check=True)
    run = Run(folder)
    run.start()
    try:
        run._client.command(_TABLE)
        for n in range(inserts):
            run.insert(n)
        run.check(inserts)
    finally:
        run.stop()
    print(f"{inserts} inserts acknowledged, each stored once; the full disk ended the engine {run.ended} times")
    assert run.ended, "the disk was never full while the engine wrote"


if __name__ == "__main__":
    main()
