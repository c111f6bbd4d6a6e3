"""The examples of docs/devices.md run as they stand."""

import os
import re
import subprocess
from pathlib import Path

from tests.bridge.http.client import Device
from tests.bridge.raw_reader import RawReader

PAGE = Path(__file__).parents[3] / "docs" / "devices.md"


def test_the_curl_examples_work(device: Device, raw: RawReader) -> None:
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if "curl" in block]
    environment = {"MILLRACE_DEVICE_HTTP_URL": f"http://127.0.0.1:{device.port}", "TOKEN": device.token}
    answers = [
        subprocess.run(
            ["bash", "-ec", block.replace("sensor-1", device.name)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        for block in blocks
    ]
    assert answers == ['{"messages":1}', '{"messages":3}']
    rows = raw.wait_for_rows(4)
    assert [(row["boot"], row["seq"]) for row in rows] == [("1", "0"), ("1", "1"), ("1", "2"), ("1", "3")]
    assert rows[3]["payload"] == b'{"temperature":21.8}'
