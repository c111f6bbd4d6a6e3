-- What analysts ask: windows with their partials added up, incidents as they stand.
-- Quantiles come from the merged sketch (schemas/sketch.py), within 0.8 % of a value's size.

CREATE OR REPLACE VIEW windows AS
SELECT
    device, channel, metric, window_start, window_ms, count, sum, sum / count AS mean,
    sqrt(greatest(0, sum_squares / count - mean * mean)) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    closed, partials, sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts
FROM
(
    SELECT
        p.device AS device, p.channel AS channel, p.metric AS metric,
        p.window_start AS window_start, p.window_ms AS window_ms,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares, min(p.min) AS min, max(p.max) AS max,
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
    scope, name, channel, metric, window_start, window_ms, count, sum, sum / count AS mean,
    sqrt(greatest(0, sum_squares / count - mean * mean)) AS stddev,
    min, max, first, last, first_time, last_time,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p50}))) AS p50,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p95}))) AS p95,
    if(empty(sketch.1), NULL, least(max, greatest(min, ${p99}))) AS p99,
    closed, partials, sum_squares, sketch.1 AS sketch_buckets, sketch.2 AS sketch_counts
FROM
(
    SELECT
        p.scope AS scope, p.name AS name, p.channel AS channel, p.metric AS metric,
        p.window_start AS window_start, p.window_ms AS window_ms,
        sum(p.count) AS count, sum(p.sum) AS sum, sum(p.sum_squares) AS sum_squares, min(p.min) AS min, max(p.max) AS max,
        argMin(p.first, (p.first_time, p.raw_epoch, p.raw_offset, p.row)) AS first,
        argMax(p.last, (p.last_time, p.raw_epoch, p.raw_offset, p.row)) AS last,
        min(p.first_time) AS first_time, max(p.last_time) AS last_time,
        sumMap(p.sketch_buckets, p.sketch_counts) AS sketch,
        max(p.part != 2) AS closed, count() AS partials
    FROM group_aggregates_1m AS p
    GROUP BY p.scope, p.name, p.channel, p.metric, p.window_start, p.window_ms
);

-- Parts of an incident in several partitions merge: the first opening, the worst peak, the sums, the last closing. Of
-- each part the newest row holds all that is known.
CREATE OR REPLACE VIEW incidents_current AS
SELECT
    p.incident AS incident, if(countIf(p.state != 'closed') > 0, 'open', 'closed') AS state,
    p.scope AS scope, p.device AS device, p.channel AS channel, p.metric AS metric, p.detector AS detector,
    max(p.severity) AS severity, min(p.opened_at) AS opened_at, argMax(p.peak_at, p.peak_score) AS peak_at,
    max(p.last_at) AS last_at, if(state = 'closed', max(p.closed_at), NULL) AS closed_at,
    argMax(tuple(p.peak_value), p.peak_score).1 AS peak_value, max(p.peak_score) AS peak_score,
    argMax(tuple(p.low), p.peak_score).1 AS low, argMax(tuple(p.high), p.peak_score).1 AS high,
    sum(p.points) AS points, sum(p.devices) AS devices, argMax(p.explanation, p.peak_score) AS explanation,
    max(p.time) AS time, count() AS parts
FROM
(
    SELECT
        i.incident AS incident, i.scope AS scope, i.device AS device, i.channel AS channel, i.metric AS metric,
        i.detector AS detector, i.raw_partition AS raw_partition,
        argMax(
            tuple(i.state, i.severity, i.time, i.opened_at, i.peak_at, i.last_at, i.closed_at, i.peak_value,
                i.peak_score, i.low, i.high, i.points, i.devices, i.explanation),
            (i.raw_epoch, i.raw_offset, i.row)) AS newest,
        newest.1 AS state, newest.2 AS severity, newest.3 AS time, newest.4 AS opened_at, newest.5 AS peak_at,
        newest.6 AS last_at, newest.7 AS closed_at, newest.8 AS peak_value, newest.9 AS peak_score,
        newest.10 AS low, newest.11 AS high, newest.12 AS points, newest.13 AS devices, newest.14 AS explanation
    FROM incidents AS i
    GROUP BY i.incident, i.scope, i.device, i.channel, i.metric, i.detector, i.raw_partition
) AS p
GROUP BY p.incident, p.scope, p.device, p.channel, p.metric, p.detector;
