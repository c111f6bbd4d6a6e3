-- Made after every migration, in a cluster only: there these two views must merge over shards. Of rows with one key the
-- engine keeps the newest within a shard, and a device whose publisher, and so its partition, changed has rows in two.
-- On one server FINAL alone does, and is four times as fast over a whole fleet.

CREATE OR REPLACE VIEW presence_current AS
SELECT
    device, newest.1 AS state, newest.2 AS reason, newest.3 AS since, newest.4 AS time, newest.5 AS last_seen,
    newest.6 AS expected_s, newest.7 AS flaps, newest.8 AS publisher, newest.9 AS raw_epoch,
    newest.10 AS raw_partition, newest.11 AS raw_offset
FROM
(
    SELECT
        p.device AS device,
        argMax(
            tuple(p.state, p.reason, p.since, p.time, p.last_seen, p.expected_s, p.flaps, p.publisher, p.raw_epoch,
                p.raw_partition, p.raw_offset),
            p.version) AS newest
    FROM presence_newest AS p
    GROUP BY p.device
);

CREATE OR REPLACE VIEW windows_1h AS
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
        h.device AS device, h.channel AS channel, h.metric AS metric, h.window_start AS window_start,
        sum(h.count) AS count, sum(h.sum) AS sum, sum(h.sum_squares) AS sum_squares,
        sum(h.m2) AS m2_within, groupArray(h.count) AS counts, groupArray(h.mean) AS means,
        min(h.min) AS min, max(h.max) AS max,
        argMin(h.first, h.first_time) AS first, argMax(h.last, h.last_time) AS last,
        min(h.first_time) AS first_time, max(h.last_time) AS last_time,
        sumMap(h.sketch_buckets, h.sketch_counts) AS sketch, max(h.until) AS until
    FROM aggregates_1h AS h FINAL
    GROUP BY h.device, h.channel, h.metric, h.window_start
);
