"""Ten minutes at full load with 100,000 devices: the memory of bridge and access is bounded and flat."""

import os
import time
from pathlib import Path

import pytest

from tests.chaos.flood import Flood
from tests.chaos.running import Running

SECONDS = float(os.environ.get("SECONDS_OF_LOAD", "600"))
RATE = float(os.environ.get("RATE", "8000"))
BOUND_BYTES = 350 << 20
FLAT = 1.10
"""How much the mean of the last third may exceed that of the middle third."""


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_is_bounded_and_flat_at_full_load(tmp_path: Path) -> None:
    with Running(tmp_path / "data") as running:
        flood = Flood(running, rate=RATE)
        flood.start()
        samples: dict[str, list[int]] = {"bridge": [], "access": []}
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(5.0, SECONDS / 30))
            for service, found in samples.items():
                pid = running.pid(service)
                assert pid is not None, f"{service} died"
                found.append(_resident_bytes(pid))
        sent = flood.stop()
        ledger = running.wait_quiet(at_least=sent)
        print(f"\n{sent} messages in {SECONDS:.0f} s ({sent / SECONDS:.0f}/s), {ledger['messages']}")
        for service, found in samples.items():
            third = len(found) // 3
            middle, last = found[third : 2 * third], found[2 * third :]
            growth = (sum(last) / len(last)) / (sum(middle) / len(middle))
            print(f"{service}: peak {max(found) >> 20} MB, last third over middle third {growth:.3f}")
            assert max(found) < BOUND_BYTES
            assert growth < FLAT
        assert ledger["messages"]["difference"] == 0
