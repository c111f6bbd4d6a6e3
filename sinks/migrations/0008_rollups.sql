-- Hours of devices, made anew where partials came: rows are keyed, so a refresh that is cut off, repeated or done by two
-- replicas changes nothing. A refresh takes the hours of those series that got partials since the last one succeeded, and
-- 20 minutes before for inserts under way; after a start of the server, which remembers none, a day. With an empty table
-- it takes all. Hours whose partials retention may have begun to take are left as they are.

CREATE TABLE IF NOT EXISTS aggregates_1h
(
    device String COMMENT 'device id' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    window_start DateTime64(3, 'UTC') COMMENT 'begin of the hour, by the time of the readings' CODEC(DoubleDelta, ZSTD(1)),
    count Int64 COMMENT 'readings' CODEC(T64, ZSTD(1)),
    sum Float64 COMMENT 'of their values' CODEC(ZSTD(1)),
    sum_squares Float64 COMMENT 'of their values' CODEC(ZSTD(1)),
    min Float64 COMMENT 'least value' CODEC(ZSTD(1)),
    max Float64 COMMENT 'greatest value' CODEC(ZSTD(1)),
    first Float64 COMMENT 'value at first_time' CODEC(ZSTD(1)),
    last Float64 COMMENT 'value at last_time' CODEC(ZSTD(1)),
    first_time DateTime64(3, 'UTC') COMMENT 'time of the earliest reading' CODEC(DoubleDelta, ZSTD(1)),
    last_time DateTime64(3, 'UTC') COMMENT 'time of the latest reading' CODEC(DoubleDelta, ZSTD(1)),
    sketch_buckets Array(Int32) COMMENT 'quantile sketch: buckets, ascending; empty when it is off' CODEC(Delta, ZSTD(1)),
    sketch_counts Array(Int64) COMMENT 'readings in each bucket' CODEC(T64, ZSTD(1)),
    until DateTime64(3, 'UTC') COMMENT 'when the newest partial in it was stored' CODEC(DoubleDelta, ZSTD(1)),
    refreshed_at DateTime64(3, 'UTC') COMMENT 'when this row was made; of rows with one key the newest counts' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_refreshed_at refreshed_at TYPE minmax GRANULARITY 1
)
ENGINE = ${replacing}(refreshed_at)
PARTITION BY toYYYYMM(window_start)
ORDER BY (toDate(window_start), device, channel, metric, window_start)
TTL toDateTime(until) + toIntervalDay(${ledger_days})
COMMENT 'Hours of devices; the view windows_1h reads them';

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
    p.device AS device, p.channel AS channel, p.metric AS metric,
    toDateTime64(toStartOfHour(p.window_start), 3, 'UTC') AS window_start,
    sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares, min(p.min) AS min, max(p.max) AS max,
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
GROUP BY p.device, p.channel, p.metric, toStartOfHour(p.window_start);

CREATE OR REPLACE VIEW windows_1h AS
SELECT
    device, channel, metric, window_start, count, sum, sum / count AS mean,
    sqrt(greatest(0, sum_squares / count - mean * mean)) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch_buckets, sketch_counts, until
FROM (SELECT *, (sketch_buckets, sketch_counts) AS sketch FROM aggregates_1h FINAL);

-- Days are few hours: they are added up when they are asked for. UTC; docs/tables.md shows days of another time zone.
CREATE OR REPLACE VIEW windows_1d AS
SELECT
    device, channel, metric, window_start, count, sum, sum / count AS mean,
    sqrt(greatest(0, sum_squares / count - mean * mean)) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts, until
FROM
(
    SELECT
        h.device AS device, h.channel AS channel, h.metric AS metric, toStartOfDay(h.window_start) AS window_start,
        sum(h.count) AS count, sum(h.sum) AS sum, sum(h.sum_squares) AS sum_squares, min(h.min) AS min, max(h.max) AS max,
        argMin(h.first, h.first_time) AS first, argMax(h.last, h.last_time) AS last,
        min(h.first_time) AS first_time, max(h.last_time) AS last_time,
        sumMap(h.sketch_buckets, h.sketch_counts) AS sketch, max(h.until) AS until
    FROM aggregates_1h AS h FINAL
    GROUP BY h.device, h.channel, h.metric, toStartOfDay(h.window_start)
);

-- Groups are few, so their hours are added up when they are asked for.
CREATE OR REPLACE VIEW group_windows_1h AS
SELECT
    scope, name, channel, metric, window_start, count, sum, sum / count AS mean,
    sqrt(greatest(0, sum_squares / count - mean * mean)) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts
FROM
(
    SELECT
        p.scope AS scope, p.name AS name, p.channel AS channel, p.metric AS metric,
        toStartOfHour(p.window_start) AS window_start,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares, min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts) AS sketch
    FROM group_aggregates_1m AS p
    GROUP BY p.scope, p.name, p.channel, p.metric, toStartOfHour(p.window_start)
);
