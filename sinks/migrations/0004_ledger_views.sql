-- The ledger's totals. Buckets of 1024 offsets are compared by their sums, and offset by offset only where these do not
-- prove that nothing is missing, doubled or different: in the open bucket at the end, and in damaged ones.
-- sum(n * cityHash64(offset)) is equal on both sides only if n is equal at each offset.
-- Each table is read in one snapshot a query, and readings last: rows go before their facts, so what a snapshot of the
-- facts tells of is in a later snapshot of the readings.

-- `kept`: the readings' TTL has not touched the bucket yet.
CREATE OR REPLACE VIEW ledger_buckets AS
SELECT
    raw_epoch, raw_partition, bucket,
    sum(r_rows) AS received_rows, sum(f_rows) AS facts_rows,
    min(r_low) AS received_low, min(f_low) AS facts_low,
    sum(r_received) AS received, sum(r_replayed) AS replayed, sum(r_platform) AS platform,
    sum(f_accepted) AS accepted, sum(f_denied) AS denied, sum(f_dead_letters) AS dead_letters,
    sum(f_duplicates) AS duplicates, sum(f_missing) AS missing, sum(f_readings) AS readings,
    sum(f_readings_mark) AS readings_mark, max(f_received_from) AS received_from,
    received_rows = 1024 AND facts_rows = 1024
        AND sum(r_offsets) = 1024 * 1024 * bucket + 523776 AND sum(f_offsets) = 1024 * 1024 * bucket + 523776
        AND sum(r_names) = sum(f_names) AND sum(r_mark) = sum(f_mark) AS proven,
    received_from > now() - toIntervalDay((
        SELECT toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)')) FROM system.tables
        WHERE database = '${database}' AND name = 'readings')) AS kept
FROM
(
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket,
        count() AS r_rows, 0 AS f_rows, min(raw_offset) AS r_low, toUInt64(-1) AS f_low,
        sum(raw_offset) AS r_offsets, 0 AS f_offsets,
        sum(cityHash64(raw_offset)) AS r_names, 0 AS f_names,
        sum(received) AS r_received, sum(replayed) AS r_replayed, sum(platform) AS r_platform,
        sum(received * cityHash64(raw_offset)) AS r_mark, 0 AS f_mark,
        0 AS f_accepted, 0 AS f_denied, 0 AS f_dead_letters, 0 AS f_duplicates, 0 AS f_missing,
        0 AS f_readings, 0 AS f_readings_mark, toDateTime64(0, 3, 'UTC') AS f_received_from
    FROM ledger_received
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
    UNION ALL
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024),
        0, count(), toUInt64(-1), min(raw_offset),
        0, sum(raw_offset),
        0, sum(cityHash64(raw_offset)),
        0, 0, 0,
        0, sum((accepted + denied + dead_letters + duplicates) * cityHash64(raw_offset)),
        sum(accepted), sum(denied), sum(dead_letters), sum(duplicates), sum(missing),
        sum(readings), sum(readings * cityHash64(raw_offset)), min(received_from)
    FROM ledger_facts
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
)
GROUP BY raw_epoch, raw_partition, bucket;

CREATE OR REPLACE VIEW ledger_stored AS
SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket, count() AS rows, sum(cityHash64(raw_offset)) AS mark
FROM readings
GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024);

-- Buckets whose sums prove nothing.
CREATE OR REPLACE VIEW ledger_doubts AS
SELECT b.raw_epoch AS raw_epoch, b.raw_partition AS raw_partition, b.bucket AS bucket
FROM ledger_buckets AS b
LEFT JOIN ledger_stored AS s USING (raw_epoch, raw_partition, bucket)
WHERE b.received_rows > 0 AND b.facts_rows > 0
    AND (NOT b.proven OR (b.kept AND (s.rows != b.readings OR s.mark != b.readings_mark)));

-- Doubtful buckets, offset by offset: (offset, known on both sides, received, accepted, denied, dead letters,
-- duplicates, missing, readings). A row that stands twice counts once.
CREATE OR REPLACE VIEW ledger_offsets AS
SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket, arraySort(groupArray(row)) AS details
FROM
(
    SELECT
        raw_epoch, raw_partition, raw_offset,
        tuple(raw_offset, max(in_received) AND max(in_facts), max(r), max(a), max(d), max(l), max(u), max(m), max(n)) AS row
    FROM
    (
        SELECT
            raw_epoch, raw_partition, raw_offset, 1 AS in_received, 0 AS in_facts, toInt64(received) AS r,
            toInt64(0) AS a, toInt64(0) AS d, toInt64(0) AS l, toInt64(0) AS u, toInt64(0) AS m, toInt64(0) AS n
        FROM ledger_received
        WHERE (raw_epoch, raw_partition, intDiv(raw_offset, 1024)) IN (SELECT * FROM ledger_doubts)
        UNION ALL
        SELECT
            raw_epoch, raw_partition, raw_offset, 0, 1, toInt64(0), toInt64(accepted), toInt64(denied),
            toInt64(dead_letters), toInt64(duplicates), toInt64(missing), toInt64(readings)
        FROM ledger_facts
        WHERE (raw_epoch, raw_partition, intDiv(raw_offset, 1024)) IN (SELECT * FROM ledger_doubts)
    )
    GROUP BY raw_epoch, raw_partition, raw_offset
)
GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024);

-- Readings of doubtful buckets, counted by raw record.
CREATE OR REPLACE VIEW ledger_stored_offsets AS
SELECT
    raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket,
    mapFromArrays(groupArray(raw_offset), groupArray(n)) AS stored_at_offset
FROM
(
    SELECT raw_epoch, raw_partition, raw_offset, toInt64(count()) AS n
    FROM readings
    WHERE intDiv(raw_offset, 1024) IN (SELECT bucket FROM ledger_doubts)
        AND (raw_epoch, raw_partition, intDiv(raw_offset, 1024)) IN (SELECT * FROM ledger_doubts)
    GROUP BY raw_epoch, raw_partition, raw_offset
)
GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024);

-- Each partition is compared from `first_offset` (0, or what the ledger's TTL left) up to but not including
-- `next_offset`, the first that is not known on both sides; what raw holds above that is in flight.
CREATE OR REPLACE VIEW ledger_partitions AS
SELECT
    raw_epoch, raw_partition, any(first_bucket) * 1024 AS first_offset, any(next) AS next_offset,
    sum(b_received) AS received, sum(b_replayed) AS replayed, sum(b_platform) AS platform,
    sum(if(detailed, arraySum(x -> x.4, below), c * b_accepted)) AS accepted,
    sum(if(detailed, arraySum(x -> x.5, below), c * b_denied)) AS denied,
    sum(if(detailed, arraySum(x -> x.6, below), c * b_dead_letters)) AS dead_lettered,
    sum(if(detailed, arraySum(x -> x.7, below), c * b_duplicates)) AS duplicates,
    sum(if(detailed, arraySum(x -> x.8, below), c * b_missing)) AS missing,
    received - sum(if(detailed, arraySum(x -> x.3, below), c * b_received)) AS in_flight,
    sum(arraySum(x -> abs(x.3 - x.4 - x.5 - x.6 - x.7), below)) AS difference,
    sumIf(b_readings, kept) AS readings_produced,
    sumIf(if(detailed, arraySum(x -> stored_at_offset[x.1], below), c * b_readings), kept) AS readings_stored,
    readings_produced - sumIf(if(detailed, arraySum(x -> x.9, below), c * b_readings), kept) AS readings_in_flight,
    sumIf(arraySum(x -> toInt64(abs(x.9 - stored_at_offset[x.1])), below), kept) AS readings_difference
FROM
(
    SELECT
        *, min(open_at) OVER (PARTITION BY raw_epoch, raw_partition) AS gap, max(bucket) OVER (PARTITION BY raw_epoch, raw_partition) AS last,
        if(gap = toUInt64(-1), (last + 1) * 1024, gap) AS next,
        bucket * 1024 < next AS c,
        arrayFilter(x -> x.1 < next, details) AS below
    FROM
    (
        SELECT
            *, toUInt64(row_number() OVER (PARTITION BY raw_epoch, raw_partition ORDER BY bucket) - 1 + first_bucket) AS place,
            multiIf(bucket != place, place * 1024, proven OR run = 1024, toUInt64(-1), place * 1024 + run) AS open_at
        FROM
        (
            SELECT
                b.raw_epoch AS raw_epoch, b.raw_partition AS raw_partition, b.bucket AS bucket, b.proven AS proven, b.kept AS kept,
                toInt64(b.replayed) AS b_replayed, toInt64(b.platform) AS b_platform,
                toInt64(b.accepted) AS b_accepted, toInt64(b.denied) AS b_denied,
                toInt64(b.dead_letters) AS b_dead_letters, toInt64(b.duplicates) AS b_duplicates,
                toInt64(b.missing) AS b_missing,
                notEmpty(o.details) AS detailed, o.details AS details, s.stored_at_offset AS stored_at_offset,
                if(detailed, arraySum(x -> x.3, details), toInt64(b.received)) AS b_received,
                if(detailed, arraySum(x -> x.9, details), toInt64(b.readings)) AS b_readings,
                arrayFirstIndex((x, i) -> x.1 != bucket * 1024 + i - 1 OR NOT x.2, details, arrayEnumerate(details)) AS hole,
                toUInt64(if(hole = 0, length(details), hole - 1)) AS run,
                min(b.received_low) OVER (PARTITION BY b.raw_epoch, b.raw_partition) AS received_from_offset,
                min(b.facts_low) OVER (PARTITION BY b.raw_epoch, b.raw_partition) AS facts_from_offset,
                multiIf(
                    least(received_from_offset, facts_from_offset) = 0, 0,
                    facts_from_offset = toUInt64(-1) OR received_from_offset = toUInt64(-1), 0,
                    intDiv(greatest(received_from_offset, facts_from_offset) + 1023, 1024)) AS first_bucket
            FROM ledger_buckets AS b
            LEFT JOIN ledger_offsets AS o USING (raw_epoch, raw_partition, bucket)
            LEFT JOIN ledger_stored_offsets AS s USING (raw_epoch, raw_partition, bucket)
        )
        WHERE bucket >= first_bucket
    )
)
GROUP BY raw_epoch, raw_partition;

CREATE OR REPLACE VIEW ledger AS
SELECT
    sum(p.received) AS received, sum(p.accepted) AS accepted, sum(p.denied) AS denied,
    sum(p.dead_lettered) AS dead_lettered, sum(p.duplicates) AS duplicates, sum(p.in_flight) AS in_flight,
    sum(p.difference) AS difference, sum(p.replayed) AS replayed, sum(p.missing) AS missing,
    sum(p.platform) AS platform, sum(p.readings_produced) AS readings_produced,
    sum(p.readings_stored) AS readings_stored, sum(p.readings_in_flight) AS readings_in_flight,
    sum(p.readings_difference) AS readings_difference
FROM ledger_partitions AS p
SETTINGS enable_shared_storage_snapshot_in_query = 1;
