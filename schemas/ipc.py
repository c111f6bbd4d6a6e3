"""Record batches as Arrow IPC streams: the value of every data record."""

from collections.abc import Mapping, Sequence

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


def decode(value: bytes, what: str = "record", options: pa.ipc.IpcReadOptions | None = None) -> pa.RecordBatch:
    """The single batch of an IPC stream. Raises ContractError on anything else."""
    try:
        source = pa.BufferReader(value)
        with pa.ipc.open_stream(source, options=options) as reader:
            first = reader.read_next_batch()
            if len(value) - source.tell() <= len(END):  # asking for another one costs as much as reading this one
                return first
            return pa.Table.from_batches([first, *reader], reader.schema).combine_chunks().to_batches()[0]
    except (pa.ArrowInvalid, pa.ArrowException, OSError, EOFError, IndexError, StopIteration) as error:
        raise ContractError(f"{what}: not an Arrow IPC stream with rows: {error}") from error


class Columns:
    """Some columns of a schema, in its order: what a reader that needs no others gives to `read`."""

    def __init__(self, schema: pa.Schema, names: Sequence[str]) -> None:
        places = sorted(schema.get_field_index(name) for name in names)
        self.schema = pa.schema([schema.field(place) for place in places])
        self.options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)


def read(
    found: Mapping[str, bytes], value: bytes, schema: pa.Schema, name: str, newest: int, only: Columns | None = None
) -> pa.RecordBatch:
    """The batch of a data record, with exactly the columns of the newest schema version, or of these those in `only`.

    Columns that an older version did not have are null. Raises NewerSchemaError for a newer version and ContractError
    for anything that does not fit.
    """
    version = check_schema(found, name, newest)
    if only is not None and version == newest:
        batch = decode(value, name, only.options)
        if not batch.schema.equals(only.schema):
            raise ContractError(f"{name}/{version}: columns are {batch.schema}, expected {only.schema}")
        return batch
    if only is not None:
        return read(found, value, schema, name, newest).select(only.schema.names)
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
