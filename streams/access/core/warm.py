"""One batch through everything, so that the first real one does not wait for imports (pyarrow's take 0.5 s)."""

from typing import Any

import pyarrow as pa

from runtime.stage.contract import Record
from schemas import headers, ipc, raw
from schemas.control import POLICY_KEY
from schemas.headers import Version
from schemas.vocabulary import Kind
from streams.access.core.stage import AccessStage
from streams.access.policy import check, shipped


def warm() -> None:
    """Judge, snapshot and restore one small batch of a stage that is thrown away."""
    stage = AccessStage()
    state = stage.create(0)
    policy = check(shipped("loopback"), "loopback.yaml").encode()
    state.apply(Record(0, 0, 0, 0, Kind.CONTROL, dict(headers.raw_control(Version(0, 0), POLICY_KEY)), policy))
    batch = _batch([b'{"value":1.5,"boot":1,"seq":0}', b'{"value":2.5,"text":"a","boot":1,"seq":1}', b"{"])
    state.apply(Record(0, 0, 0, 0, Kind.DATA, dict(headers.raw_data(len(batch))), ipc.encode(batch)))
    stage.restore(0, state.freeze(), stage.logic_version)


def _batch(payloads: list[bytes]) -> Any:
    of_each: dict[str, Any] = {
        "device": "warm",
        "topic": "d/warm/telemetry/warm",
        "transport": 0,
        "qos": 1,
        "retain": False,
        "received_at": 0,
    }
    columns = [
        pa.array(payloads if f.name == "payload" else [of_each.get(f.name)] * len(payloads), f.type) for f in raw.SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=raw.SCHEMA)
