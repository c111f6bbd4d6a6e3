-- The section `windows` of the ledger: what access produced and what became of it in windows.
-- Each record of telemetry.aggregates counts the readings of a stretch: the raw records after `prev` up to `raw_offset`.
-- While a stretch lasts, stream time stands at `since`, and so it does in the facts of its records. So both sides are
-- summed by spans of stream time (262.144 s), and by buckets of 1024 offsets, in one projection each; only spans and
-- buckets whose sums do not prove that each stretch agrees are compared stretch by stretch, record by record.

ALTER TABLE ledger_facts DROP PROJECTION IF EXISTS by_bucket;
ALTER TABLE ledger_facts ADD PROJECTION IF NOT EXISTS by_buckets
(
    SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(time), 262144),
        count(), min(raw_offset), max(raw_offset), sum(raw_offset), sum(cityHash64(raw_offset)),
        sum(accepted), sum(denied), sum(dead_letters), sum(duplicates), sum(missing), sum(readings),
        sum((accepted + denied + dead_letters + duplicates) * cityHash64(raw_offset)),
        sum(readings * cityHash64(raw_offset)), min(received_from),
        sum(readings * cityHash64(toUnixTimestamp64Milli(time)))
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(time), 262144)
);
ALTER TABLE ledger_facts MATERIALIZE PROJECTION IF EXISTS by_buckets;

ALTER TABLE ledger_derived ADD PROJECTION IF NOT EXISTS by_buckets
(
    SELECT topic, raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(since), 262144),
        count(), min(prev), max(raw_offset), sum(cityHash64(raw_offset)), sum(cityHash64(toUInt64(prev))),
        sum(readings), sum(toUInt64(readings) * cityHash64(toUnixTimestamp64Milli(since))),
        sum(folded), sum(texts), sum(refused), sum(abs(readings - folded - texts - refused)),
        sum(emitted), sum(toUInt64(emitted) * cityHash64(raw_offset)),
        argMin(open - folded + emitted, raw_offset), argMax(open, raw_offset), min(append_time)
    GROUP BY topic, raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(since), 262144)
);
ALTER TABLE ledger_derived MATERIALIZE PROJECTION IF EXISTS by_buckets;

-- `proven`: the stretches of the span follow each other without a gap, and each read as many readings as the facts say.
CREATE OR REPLACE VIEW ledger_window_spans AS
SELECT
    raw_epoch, raw_partition, span,
    sum(f_said) AS said, sum(f_mark) AS said_mark, min(f_low) AS facts_low, max(f_high) AS facts_high,
    sum(d_records) AS records, min(d_low) AS low, max(d_high) AS high,
    sum(d_read) AS read, sum(d_mark) AS read_mark, sum(d_folded) AS folded, sum(d_texts) AS texts,
    sum(d_refused) AS refused, sum(d_wrong) AS wrong, sum(d_emitted) AS emitted,
    argMinIf(d_open_before, d_low, d_records > 0) AS open_before, argMaxIf(d_open, d_high, d_records > 0) AS open,
    records > 0 AND read = said AND read_mark = said_mark
        AND sum(d_links) = cityHash64(toUInt64(high)) - cityHash64(toUInt64(low)) AS proven,
    groupUniqArray(in_bucket) AS buckets
FROM
(
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS in_bucket,
        intDiv(toUnixTimestamp64Milli(time), 262144) AS span,
        toInt64(sum(readings)) AS f_said, sum(readings * cityHash64(toUnixTimestamp64Milli(time))) AS f_mark,
        toInt64(min(raw_offset)) AS f_low, toInt64(max(raw_offset)) AS f_high,
        0 AS d_records, toInt64(9223372036854775807) AS d_low, toInt64(-1) AS d_high, toInt64(0) AS d_links,
        toInt64(0) AS d_read, toUInt64(0) AS d_mark, toInt64(0) AS d_folded, toInt64(0) AS d_texts,
        toInt64(0) AS d_refused, toInt64(0) AS d_wrong, toInt64(0) AS d_emitted,
        toInt64(0) AS d_open_before, toInt64(0) AS d_open
    FROM ledger_facts
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(time), 262144)
    UNION ALL
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(since), 262144),
        0, 0, 9223372036854775807, -1,
        count(), min(prev), toInt64(max(raw_offset)), sum(cityHash64(raw_offset)) - sum(cityHash64(toUInt64(prev))),
        sum(readings), sum(toUInt64(readings) * cityHash64(toUnixTimestamp64Milli(since))),
        sum(folded), sum(texts), sum(refused), toInt64(sum(abs(readings - folded - texts - refused))), sum(emitted),
        argMin(open - folded + emitted, raw_offset), argMax(open, raw_offset)
    FROM ledger_derived
    WHERE topic = 'telemetry.aggregates'
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(since), 262144)
)
GROUP BY raw_epoch, raw_partition, span;

-- Doubtful spans, with the buckets that hold records of them.
CREATE OR REPLACE VIEW ledger_window_doubts AS
SELECT raw_epoch, raw_partition, arrayJoin(buckets) AS bucket, span
FROM ledger_window_spans
WHERE records > 0 AND NOT proven;

-- Doubtful spans, stretch by stretch: (raw offset, that of the record before, read, said, folded, texts, refused, wrong,
-- emitted, open, rest). Said: the facts' readings up to the stretch's end less those up to its beginning. Rest: the
-- facts' readings of the span after its end.
CREATE OR REPLACE VIEW ledger_window_stretches AS
SELECT raw_epoch, raw_partition, span, arraySort(groupArray(stretch)) AS stretches
FROM
(
    SELECT
        raw_epoch, raw_partition, in_span AS span, src,
        tuple(src, max(before), max(read), maxIf(so_far, place = 2) - maxIf(so_far, place = 1), max(f), max(t), max(r),
            max(w), max(e), max(o), max(at_end) - maxIf(so_far, place = 2)) AS stretch
    FROM
    (
        SELECT
            *, sum(said) OVER (PARTITION BY raw_epoch, raw_partition ORDER BY at, place ROWS UNBOUNDED PRECEDING) AS so_far,
            sum(said) OVER (PARTITION BY raw_epoch, raw_partition ORDER BY in_span) AS at_end
        FROM
        (
            SELECT
                raw_epoch, raw_partition, toInt64(raw_offset) AS at, 0 AS place, toInt64(readings) AS said,
                intDiv(toUnixTimestamp64Milli(time), 262144) AS in_span, toInt64(-1) AS src, toInt64(-1) AS before, toInt64(0) AS read, toInt64(0) AS f,
                toInt64(0) AS t, toInt64(0) AS r, toInt64(0) AS w, toInt64(0) AS e, toInt64(0) AS o
            FROM ledger_facts
            WHERE (raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(time), 262144)) IN
                (SELECT * FROM ledger_window_doubts)
            UNION ALL
            SELECT
                raw_epoch, raw_partition, if(place = 1, prev, toInt64(raw_offset)), place, 0,
                intDiv(toUnixTimestamp64Milli(since), 262144), toInt64(raw_offset), prev, readings, folded,
                texts, refused, toInt64(abs(readings - folded - texts - refused)), emitted, open
            FROM ledger_derived
            ARRAY JOIN [1, 2] AS place
            WHERE topic = 'telemetry.aggregates'
                AND (raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(since), 262144)) IN
                    (SELECT * FROM ledger_window_doubts)
        )
    )
    WHERE place > 0
    GROUP BY raw_epoch, raw_partition, in_span, src
)
GROUP BY raw_epoch, raw_partition, span;

-- How far windows are accounted for in each partition: up to `reach`, the last record to which the chain leads without a
-- gap and whose facts are known; and the sums up to there. Where the ledger's TTL took the beginning, it starts with the
-- first span that is whole on both sides.
CREATE OR REPLACE VIEW ledger_window_reach AS
SELECT
    raw_epoch, raw_partition,
    sum(said) AS produced,
    max(multiIf(NOT used, -1, detailed, tupleElement(part[-1], 1), high)) AS reach,
    sumIf(said, span > furthest) + sumIf(tupleElement(part[-1], 11), detailed AND span = furthest) AS in_flight,
    sumIf(if(detailed, arraySum(x -> x.4, part), said), used) AS said_below,
    sumIf(if(detailed, arraySum(x -> x.5, part), folded), used) AS all_folded,
    sumIf(if(detailed, arraySum(x -> x.6, part), texts), used) AS all_texts,
    sumIf(if(detailed, arraySum(x -> x.7, part), refused), used) AS all_refused,
    sumIf(if(detailed, arraySum(x -> x.8, part), wrong), used) AS all_wrong,
    sumIf(if(detailed, arraySum(x -> x.9, part), emitted), used) AS all_emitted,
    sumIf(arraySum(x -> abs(x.3 - x.4), part), used) AS misread,
    argMaxIf(if(detailed, tupleElement(part[-1], 10), open), span, used) AS open_after,
    if(max(trimmed), argMinIf(open_before, span, used), 0) AS open_first
FROM
(
    SELECT *, max(if(used, span, -1)) OVER (PARTITION BY raw_epoch, raw_partition) AS furthest
    FROM
    (
    SELECT
        *, min(if(broken, span, 9223372036854775807)) OVER (PARTITION BY raw_epoch, raw_partition) AS stop,
        arraySlice(stretches, 1, run) AS part,
        records > 0 AND (span < stop OR (span = stop AND run > 0)) AS used
    FROM
    (
        SELECT
            *,
            if(span = first_span, if(trimmed, low, -1),
                max(high) OVER (PARTITION BY raw_epoch, raw_partition ORDER BY span ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            ) AS expected,
            arrayFirstIndex(
                (x, i) -> x.2 != if(i = 1, expected, tupleElement(stretches[i - 1], 1)) OR x.1 > facts_end,
                stretches, arrayEnumerate(stretches)) AS hole,
            toInt64(if(hole = 0, length(stretches), hole - 1)) AS run,
            records > 0 AND if(detailed, hole > 0, low != expected) AS broken
        FROM
        (
            SELECT
                *, oldest_fact > 0 AS trimmed,
                min(if(records > 0 AND (NOT trimmed OR span > oldest_span), span, 9223372036854775807))
                    OVER (PARTITION BY raw_epoch, raw_partition) AS first_span
            FROM
            (
                SELECT
                    s.*, notEmpty(d.stretches) AS detailed, d.stretches AS stretches,
                    max(facts_high) OVER (PARTITION BY raw_epoch, raw_partition) AS facts_end,
                    min(facts_low) OVER (PARTITION BY raw_epoch, raw_partition) AS oldest_fact,
                    greatest(
                        min(if(records > 0, span, 9223372036854775807)) OVER (PARTITION BY raw_epoch, raw_partition),
                        min(if(facts_high < 0, 9223372036854775807, span)) OVER (PARTITION BY raw_epoch, raw_partition)
                    ) AS oldest_span
                FROM ledger_window_spans AS s
                LEFT JOIN ledger_window_stretches AS d USING (raw_epoch, raw_partition, span)
            )
        )
        WHERE NOT trimmed OR span >= first_span
    )
    )
)
GROUP BY raw_epoch, raw_partition;

-- Buckets in which rows and headers do not prove that each record has the rows it says.
CREATE OR REPLACE VIEW ledger_window_miscounted AS
SELECT raw_epoch, raw_partition, bucket
FROM
(
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket, sum(emitted) AS n,
        sum(toUInt64(emitted) * cityHash64(raw_offset)) AS mark, min(append_time) AS oldest
    FROM ledger_derived
    WHERE topic = 'telemetry.aggregates'
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
) AS l
LEFT JOIN
(
    SELECT
        raw_epoch, raw_partition, intDiv(raw_offset, 1024) AS bucket, sum(count) AS n,
        sum(toUInt64(count) * cityHash64(raw_offset)) AS mark
    FROM aggregates_1m
    GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
) AS s USING (raw_epoch, raw_partition, bucket)
WHERE (l.n != s.n OR l.mark != s.mark)
    AND l.oldest > now() - toIntervalDay((
        SELECT toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)')) FROM system.tables
        WHERE database = '${database}' AND name = 'aggregates_1m'));

-- Records whose rows in aggregates_1m are other than their headers say, as far as retention has not touched them.
CREATE OR REPLACE VIEW ledger_window_rows AS
SELECT raw_epoch, raw_partition, raw_offset, toInt64(sum(s)) - toInt64(max(e)) AS more
FROM
(
    SELECT raw_epoch, raw_partition, raw_offset, emitted AS e, toInt64(0) AS s
    FROM ledger_derived
    WHERE topic = 'telemetry.aggregates'
        AND (raw_epoch, raw_partition, intDiv(raw_offset, 1024)) IN (SELECT * FROM ledger_window_miscounted)
    UNION ALL
    SELECT raw_epoch, raw_partition, raw_offset, 0, count
    FROM aggregates_1m
    WHERE intDiv(raw_offset, 1024) IN (SELECT bucket FROM ledger_window_miscounted)
        AND (raw_epoch, raw_partition, intDiv(raw_offset, 1024)) IN (SELECT * FROM ledger_window_miscounted)
)
GROUP BY raw_epoch, raw_partition, raw_offset
HAVING more != 0;

CREATE OR REPLACE VIEW ledger_window_partitions AS
SELECT
    r.raw_epoch AS raw_epoch, r.raw_partition AS raw_partition, r.reach AS reach,
    r.produced + r.open_first AS readings,
    r.all_emitted + arraySum(x -> x.2, below) AS counted,
    r.open_after AS open, r.all_texts AS texts, r.all_refused AS refused, r.in_flight AS in_flight,
    arrayFilter(x -> x.1 <= r.reach, w.rows) AS below,
    r.misread + r.all_wrong + arraySum(x -> abs(x.2), below) + abs(r.produced - r.in_flight - r.said_below)
        + abs(r.open_after - r.open_first - r.all_folded + r.all_emitted) AS difference
FROM ledger_window_reach AS r
LEFT JOIN
(
    SELECT raw_epoch, raw_partition, groupArray((toInt64(raw_offset), more)) AS rows
    FROM ledger_window_rows
    GROUP BY raw_epoch, raw_partition
) AS w USING (raw_epoch, raw_partition);

CREATE OR REPLACE VIEW ledger AS
SELECT messages.*, windows.*
FROM
(
    SELECT
        sum(p.received) AS received, sum(p.accepted) AS accepted, sum(p.denied) AS denied,
        sum(p.dead_lettered) AS dead_lettered, sum(p.duplicates) AS duplicates, sum(p.in_flight) AS in_flight,
        sum(p.difference) AS difference, sum(p.replayed) AS replayed, sum(p.missing) AS missing,
        sum(p.platform) AS platform, sum(p.readings_produced) AS readings_produced,
        sum(p.readings_stored) AS readings_stored, sum(p.readings_in_flight) AS readings_in_flight,
        sum(p.readings_difference) AS readings_difference
    FROM ledger_partitions AS p
) AS messages
CROSS JOIN
(
    SELECT
        sum(w.readings) AS windows_readings, sum(w.counted) AS windows_counted, sum(w.open) AS windows_open,
        sum(w.texts) AS windows_texts, sum(w.refused) AS windows_refused, sum(w.in_flight) AS windows_in_flight,
        sum(w.difference) AS windows_difference
    FROM ledger_window_partitions AS w
) AS windows
SETTINGS enable_shared_storage_snapshot_in_query = 1;
