-- Mergeable moments: count, mean and m2, the sum of squared deviations from the mean. Sums of squares about zero have no
-- digits left of the variance of values that are large against their spread. Partials merge by the formula of Chan, Golub
-- and LeVeque (1979): the mean of all is the weighted mean, and m2 = sum(m2) + sum(count * (mean of the partial - mean)^2).
-- Rows that were written before have sums alone: m2 is computed from them where they have four digits of it, and NaN
-- elsewhere; views show NULL for a deviation that is not known.

ALTER TABLE aggregates_1m ADD COLUMN IF NOT EXISTS mean Float64 DEFAULT sum / count COMMENT 'mean of the values' CODEC(ZSTD(1)) AFTER sum_squares;
ALTER TABLE aggregates_1m ADD COLUMN IF NOT EXISTS m2 Float64 DEFAULT ${m2_of_sums} COMMENT 'sum of squared deviations from mean; NaN where not known: rows of before' CODEC(ZSTD(1)) AFTER mean;

ALTER TABLE group_aggregates_1m ADD COLUMN IF NOT EXISTS mean Float64 DEFAULT sum / count COMMENT 'mean of the values' CODEC(ZSTD(1)) AFTER sum_squares;
ALTER TABLE group_aggregates_1m ADD COLUMN IF NOT EXISTS m2 Float64 DEFAULT ${m2_of_sums} COMMENT 'sum of squared deviations from mean; NaN where not known: rows of before' CODEC(ZSTD(1)) AFTER mean;

ALTER TABLE aggregates_1h ADD COLUMN IF NOT EXISTS mean Float64 DEFAULT sum / count COMMENT 'mean of the values' CODEC(ZSTD(1)) AFTER sum_squares;
ALTER TABLE aggregates_1h ADD COLUMN IF NOT EXISTS m2 Float64 DEFAULT ${m2_of_sums} COMMENT 'sum of squared deviations from mean; NaN where not known: rows of before' CODEC(ZSTD(1)) AFTER mean;

DROP VIEW IF EXISTS rollup_1h;

CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_1h
REFRESH EVERY 10 MINUTE APPEND TO aggregates_1h EMPTY AS
WITH changed AS
(
    SELECT DISTINCT device, channel, metric, toStartOfHour(window_start) AS hour
    FROM aggregates_1m
    WHERE
        stored_at > (
            SELECT least(newest, if(last > 0, last, newest - toIntervalDay(1))) - toIntervalMinute(20)
            FROM
            (
                SELECT
                    (SELECT max(until) FROM aggregates_1h) AS newest,
                    (
                        SELECT toDateTime64(max(ifNull(last_success_time, toDateTime(0))), 3, 'UTC') FROM system.view_refreshes
                        WHERE database = '${database}' AND view = 'rollup_1h'
                    ) AS last
            ))
        AND window_start > (
            SELECT now() - toIntervalDay(toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)')) - 1)
            FROM system.tables WHERE database = '${database}' AND name = 'aggregates_1m')
)
SELECT
    device, channel, metric, window_start, count, sum, sum_squares, ${mean} AS mean, ${m2} AS m2,
    min, max, first, last, first_time, last_time, sketch_buckets, sketch_counts, until, refreshed_at
FROM
(
    SELECT
        p.device AS device, p.channel AS channel, p.metric AS metric,
        toDateTime64(toStartOfHour(p.window_start), 3, 'UTC') AS window_start,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares,
        sum(p.m2) AS m2_within, groupArray(p.count) AS counts, groupArray(p.mean) AS means,
        min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts).1 AS sketch_buckets,
        sumMap(p.sketch_buckets, p.sketch_counts).2 AS sketch_counts,
        max(p.stored_at) AS until, now64(3) AS refreshed_at
    FROM aggregates_1m AS p
    WHERE toDate(p.window_start) IN (SELECT toDate(hour) FROM changed)
        AND (p.device, p.channel, p.metric, toStartOfHour(p.window_start)) IN
            (SELECT device, channel, metric, hour FROM changed)
    GROUP BY p.device, p.channel, p.metric, toStartOfHour(p.window_start)
);

CREATE OR REPLACE VIEW windows_1h AS
SELECT
    device, channel, metric, window_start, count, sum, mean,
    if(isFinite(m2), sqrt(m2 / count), NULL) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch_buckets, sketch_counts, until, m2
FROM (SELECT *, (sketch_buckets, sketch_counts) AS sketch FROM aggregates_1h FINAL);

-- Days are few hours: they are added up when they are asked for. UTC; docs/tables.md shows days of another time zone.
CREATE OR REPLACE VIEW windows_1d AS
SELECT
    device, channel, metric, window_start, count, sum, ${mean} AS mean,
    if(isFinite(m2), sqrt(m2 / count), NULL) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts, until,
    ${m2} AS m2
FROM
(
    SELECT
        h.device AS device, h.channel AS channel, h.metric AS metric, toStartOfDay(h.window_start) AS window_start,
        sum(h.count) AS count, sum(h.sum) AS sum, sum(h.sum_squares) AS sum_squares,
        sum(h.m2) AS m2_within, groupArray(h.count) AS counts, groupArray(h.mean) AS means,
        min(h.min) AS min, max(h.max) AS max,
        argMin(h.first, h.first_time) AS first, argMax(h.last, h.last_time) AS last,
        min(h.first_time) AS first_time, max(h.last_time) AS last_time,
        sumMap(h.sketch_buckets, h.sketch_counts) AS sketch, max(h.until) AS until
    FROM aggregates_1h AS h FINAL
    GROUP BY h.device, h.channel, h.metric, toStartOfDay(h.window_start)
);

-- Groups are few, so their hours are added up when they are asked for.
CREATE OR REPLACE VIEW group_windows_1h AS
SELECT
    scope, name, channel, metric, window_start, count, sum, ${mean} AS mean,
    if(isFinite(m2), sqrt(m2 / count), NULL) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts,
    ${m2} AS m2
FROM
(
    SELECT
        p.scope AS scope, p.name AS name, p.channel AS channel, p.metric AS metric,
        toStartOfHour(p.window_start) AS window_start,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares,
        sum(p.m2) AS m2_within, groupArray(p.count) AS counts, groupArray(p.mean) AS means,
        min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts) AS sketch
    FROM group_aggregates_1m AS p
    GROUP BY p.scope, p.name, p.channel, p.metric, toStartOfHour(p.window_start)
);

CREATE OR REPLACE VIEW windows AS
SELECT
    device, channel, metric, window_start, window_ms, count, sum, ${mean} AS mean,
    if(isFinite(m2), sqrt(m2 / count), NULL) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    closed, partials, sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts,
    ${m2} AS m2
FROM
(
    SELECT
        p.device AS device, p.channel AS channel, p.metric AS metric,
        p.window_start AS window_start, p.window_ms AS window_ms,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares,
        sum(p.m2) AS m2_within, groupArray(p.count) AS counts, groupArray(p.mean) AS means,
        min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts) AS sketch,
        max(p.part != 2) AS closed, count() AS partials
    FROM aggregates_1m AS p
    GROUP BY p.device, p.channel, p.metric, p.window_start, p.window_ms
);

CREATE OR REPLACE VIEW group_windows AS
SELECT
    scope, name, channel, metric, window_start, window_ms, count, sum, ${mean} AS mean,
    if(isFinite(m2), sqrt(m2 / count), NULL) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    closed, partials, sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts,
    ${m2} AS m2
FROM
(
    SELECT
        p.scope AS scope, p.name AS name, p.channel AS channel, p.metric AS metric,
        p.window_start AS window_start, p.window_ms AS window_ms,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares,
        sum(p.m2) AS m2_within, groupArray(p.count) AS counts, groupArray(p.mean) AS means,
        min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts) AS sketch,
        max(p.part != 2) AS closed, count() AS partials
    FROM group_aggregates_1m AS p
    GROUP BY p.scope, p.name, p.channel, p.metric, p.window_start, p.window_ms
);
