"""ClickHouse's expressions for quantiles and moments say what Python says of the same partials."""

import math
from collections.abc import Iterable

import numpy as np

from schemas import sketch
from sinks.core import statistics
from tests.servers import ClickHouseServer

QUANTILES = (0.0, 0.5, 0.95, 0.99, 1.0)


def sketched(values: Iterable[float]) -> list[tuple[int, int]]:
    return sketch.merge([[(sketch.bucket_of(value), 1)] for value in values])


def test_clickhouse_reads_the_same_quantiles(clickhouse: ClickHouseServer) -> None:
    rng = np.random.default_rng(5)
    cases = [
        [0.0],
        [-3.5, 0.0, 7.25],
        [math.inf, 1.0, -math.inf],
        (10.0 ** rng.uniform(-9, 12, 500) * rng.choice([-1, 1], 500)).tolist(),
        rng.normal(21, 3, 1_000).tolist(),
    ]
    for values in cases:
        merged = sketched(values)
        halves = [sketched(values[::2]), sketched(values[1::2])]
        asked = ", ".join(statistics.quantile("s", q) for q in QUANTILES)
        rows = " UNION ALL ".join(
            f"SELECT {[b for b, _ in half]}::Array(Int32) AS k, {[c for _, c in half]}::Array(Int64) AS v"
            for half in halves
        )
        got = query(clickhouse, f"SELECT {asked} FROM (SELECT sumMap(k, v) AS s FROM ({rows}))")
        assert got == [sketch.quantile(merged, q) for q in QUANTILES]


def test_clickhouse_says_nan_of_an_empty_sketch(clickhouse: ClickHouseServer) -> None:
    rows = "SELECT []::Array(Int32) AS k, []::Array(Int64) AS v"
    (got,) = query(clickhouse, f"SELECT {statistics.quantile('s', 0.5)} FROM (SELECT sumMap(k, v) AS s FROM ({rows}))")
    assert math.isnan(got)


def query(server: ClickHouseServer, statement: str) -> list[float]:
    import clickhouse_connect

    client = clickhouse_connect.get_client(
        host=server.host, port=server.port, username=server.user, password=server.password
    )
    try:
        return list(client.query(statement).result_rows[0])
    finally:
        client.close()
