"""Arrow streams of gateways."""

import io
from typing import Any

import pyarrow as pa


def stream(*tables: pa.Table | dict[str, Any], options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    made = [t if isinstance(t, pa.Table) else pa.table(t) for t in tables]
    out = io.BytesIO()
    with pa.ipc.new_stream(out, made[0].schema, options=options) as writer:
        for table in made:
            writer.write_table(table)
    return out.getvalue()
