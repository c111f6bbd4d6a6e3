"""Full load from 100,000 device ids over one connection: for bridge and access a device is a topic, not a socket."""

import subprocess
import sys
import threading
import time

from tests.chaos.running import ROOT, Running

ROUND = 100_000
"""Messages of one round: one from each device."""


class Flood(threading.Thread):
    """Publishes rounds at `rate` messages a second on average through the bridge's own listener."""

    def __init__(self, running: Running, rate: float) -> None:
        super().__init__(daemon=True)
        folder = running.data / "mosquitto"
        socket, password = folder / "socket" / "mqtt", (folder / "bridge.password").read_text().strip()
        where = (str(socket), "millrace_bridge", password)
        self._argv = [sys.executable, "-m", "benchmarks.mqtt_load", "publish", *where, str(ROUND), str(ROUND)]
        self._rate, self._stopping, self.rounds = rate, threading.Event(), 0

    def run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            subprocess.run(self._argv, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=300)
            self.rounds += 1
            due += ROUND / self._rate
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def stop(self) -> int:
        """Messages published."""
        self._stopping.set()
        self.join()
        return self.rounds * ROUND
