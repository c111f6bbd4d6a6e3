"""What publishers sent beside what is stored."""

from tests.chaos.publishers import Publisher
from tests.chaos.running import Running


def account(running: Running, publishers: list[Publisher]) -> tuple[int, int, int]:
    """(messages, lost, doubled) of what was published, by what ClickHouse holds."""
    rows = (
        running.clickhouse()
        .query("SELECT device, value, count() FROM readings WHERE metric = 'n' GROUP BY 1, 2")
        .result_rows
    )
    found = {(device, int(value)): count for device, value, count in rows}
    wanted = {(p.device, n): p for p in publishers for n in range(p.published)}
    lost = [key for key in wanted if key not in found]
    doubled = [key for key, p in wanted.items() if found.get(key, 0) > 1 and (p.stamped or p.end_to_end)]
    assert not set(found) - set(wanted), "readings that nobody published"
    return len(wanted), len(lost), len(doubled)
