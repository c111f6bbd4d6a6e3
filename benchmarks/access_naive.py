"""The rival of the access stage: a plain Faust agent, a message at a time, with dictionaries for what it remembers.

It does what one writes first: parse the JSON, look up the role, check channel, bounds and seq, send the answer.
`python -m benchmarks.access_naive BOOTSTRAP SOURCE TARGET MESSAGES` prints CPU µs a message.
"""

import json
import os
import sys
from typing import Any

import faust

from benchmarks.figures import cpu_s

WARM = 2_000
POLICY = {"temperature-sensor": {"climate": {"temperature": (-50, 80), "humidity": (0, 100)}}}


def build(bootstrap: str, source: str, target: str, messages: int) -> faust.App:
    """The app; it ends the process after so many messages."""
    app = faust.App(
        f"naive-{source}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        value_serializer="json",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        datadir=f"/tmp/naive-{os.getpid()}",
    )
    out = app.topic(target, value_serializer="json")
    last: dict[tuple[str, int], int] = {}
    roles: dict[str, str] = {}

    def judge(message: dict[str, Any]) -> dict[str, Any]:
        body = json.loads(message["payload"])
        _, device, _, channel = message["topic"].split("/")
        role = roles.setdefault(device, "temperature-sensor")
        boot, seq = body.pop("boot"), body.pop("seq")
        if device != message["device"] or channel not in POLICY[role]:
            return {"verdict": "denied", "payload": message["payload"]}
        if seq <= last.get((device, boot), -1):
            return {"verdict": "duplicate"}
        last[device, boot] = seq
        readings = []
        for metric, value in body.items():
            low, high = POLICY[role][channel][metric]
            readings.append({"metric": metric, "value": value, "quality": (value < low) + 2 * (value > high)})
        return {"verdict": "accepted", "device": device, "boot": boot, "seq": seq, "readings": readings}

    @app.agent(app.topic(source, value_serializer="json"))
    async def access(stream: Any) -> None:
        count, begin = 0, 0.0
        async for message in stream:
            await out.send(value=judge(message))
            count += 1
            if count == WARM:
                begin = cpu_s()
            elif count == messages:
                print((cpu_s() - begin) / (messages - WARM) * 1e6, flush=True)
                os._exit(0)

    return app


if __name__ == "__main__":
    bootstrap, source, target, messages = sys.argv[1:]
    found = build(bootstrap, source, target, int(messages))
    faust.Worker(found, loglevel="error").execute_from_commandline()
