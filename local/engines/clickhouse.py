"""ClickHouse's engine (chdb) behind its own HTTP interface, as a process: see local/clickhouse."""

import http.client
import sys
from dataclasses import dataclass
from pathlib import Path

from local.ports import LOOPBACK
from local.programs import Program


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """One server. Its passwords are made at the first start, into `folder`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """For services and operators."""
        return f"http://millrace@{LOOPBACK}:{self.port}/millrace"

    @property
    def password_file(self) -> Path:
        return self.folder / "millrace.password"

    @property
    def analyst_url(self) -> str:
        """For those who only read."""
        return f"http://analyst@{LOOPBACK}:{self.port}/millrace"

    @property
    def analyst_password_file(self) -> Path:
        return self.folder / "analyst.password"

    def program(self) -> Program:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        argv = (sys.executable, "-m", "local.clickhouse")
        environment = {
            "MILLRACE_FOLDER": str(self.folder),
            "MILLRACE_LISTEN": f"{LOOPBACK}:{self.port}",
            "TZ": "UTC",  # DateTime without a zone reads the same on every machine
        }
        return Program("clickhouse", argv, self._ready, environment)

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=0.5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
