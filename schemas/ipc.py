"""Record batches as Arrow IPC streams: the value of every data record."""

from collections.abc import Mapping

import pyarrow as pa

from schemas.errors import ContractError
from schemas.headers import check_schema

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end-of-stream marker of the Arrow IPC format."""


def head(schema: pa.Schema) -> bytes:
    """The schema message that opens a stream; the same for every record, so callers keep it."""
    return bytes(schema.serialize().to_pybytes())


def encode(batch: pa.RecordBatch) -> bytes:
    """One batch as a whole IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def decode(value: bytes, what: str = "record") -> pa.RecordBatch:
    """The single batch of an IPC stream. Raises ContractError on anything else."""
    try:
        with pa.ipc.open_stream(value) as reader:
            batches = list(reader)
            if len(batches) == 1:
                return batches[0]
            return pa.Table.from_batches(batches, reader.schema).combine_chunks().to_batches()[0]
    except (pa.ArrowInvalid, pa.ArrowException, OSError, EOFError, IndexError) as error:
        raise ContractError(f"{what}: not an Arrow IPC stream with rows: {error}") from error


def read(found: Mapping[str, bytes], value: bytes, schema: pa.Schema, name: str, newest: int) -> pa.RecordBatch:
    """The batch of a data record, with exactly the columns of the newest schema version.

    Columns that an older version did not have are null. Raises NewerSchemaError for a newer version and ContractError
    for anything that does not fit.
    """
    version = check_schema(found, name, newest)
    batch = decode(value, name)
    if batch.schema.equals(schema):
        return batch
    if version == newest:
        raise ContractError(f"{name}/{version}: columns are {batch.schema.names}, expected {schema.names}")
    columns = [
        batch.column(f.name).cast(f.type) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
