"""The ledger's totals: received = accepted + denied + dead lettered + duplicates + in flight + difference.

Readings: produced = stored + in flight + difference, and in windows = counted + open + texts + refused + in flight +
difference. The sums are those of the view `millrace.ledger` (sinks/migrations/0004_ledger_views.sql, 0006).
"""

import time
from typing import Any, Final

from runtime.clickhouse.errors import translated

_AGAIN_S: Final = 0.5
_LOOKS: Final = 3
_MESSAGES: Final = ("received", "accepted", "denied", "dead_lettered", "duplicates", "in_flight", "difference")
_BESIDE: Final = ("replayed", "missing", "platform")
_READINGS: Final = ("produced", "stored", "in_flight", "difference")
_WINDOWS: Final = ("readings", "counted", "open", "texts", "refused", "in_flight", "difference")


def ledger_totals(client: Any) -> dict[str, dict[str, int]]:
    """`{"messages": {…}, "readings": {…}, "windows": {…}}`, with `replayed`, `missing`, `platform` beside the messages.

    While the stage that counts readings in windows has written nothing, all of them are in flight there.

    `client` is one of clickhouse-connect. A difference is looked at again before it is reported: a server under load
    may show a row and not yet the one written before it. Raises RetryableError while ClickHouse is away.
    """
    totals = look(client)
    for _ in range(_LOOKS - 1):
        if not any(section["difference"] for section in totals.values()):
            break
        time.sleep(_AGAIN_S)
        totals = look(client)
    return totals


def look(client: Any) -> dict[str, dict[str, int]]:
    """The totals at one look."""
    with translated("ledger"):
        answer = client.query("SELECT * FROM ledger")
    found = dict(zip(answer.column_names, (int(n) for n in answer.result_rows[0]), strict=True))
    return {
        "messages": {name: found[name] for name in (*_MESSAGES, *_BESIDE)},
        "readings": {name: found[f"readings_{name}"] for name in _READINGS},
        "windows": {name: found[f"windows_{name}"] for name in _WINDOWS},
    }
