-- What the stages behind access say, and events: what happened to devices. One row of ledger_derived for each record.

CREATE TABLE IF NOT EXISTS events
(
    device String COMMENT 'device id' CODEC(ZSTD(1)),
    event String COMMENT 'the topic after the device: event/offline, config, reply/17; connected and disconnected by the platform' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'when the device says it happened; received_at if it does not say' CODEC(DoubleDelta, ZSTD(1)),
    payload Nullable(String) COMMENT 'bytes as they came' CODEC(ZSTD(1)),
    content_type Nullable(String) COMMENT 'as given by the device' CODEC(ZSTD(1)),
    boot Nullable(Int64) COMMENT 'boot counter of the publisher' CODEC(ZSTD(1)),
    seq Nullable(Int64) COMMENT 'sequence number within the boot' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'when the bridge read it' CODEC(DoubleDelta, ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, raw_row: the name of this event for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(Delta, ZSTD(1)),
    raw_row UInt32 COMMENT 'row in the raw record' CODEC(ZSTD(1)),
    publisher String COMMENT 'authenticated publisher: the device or its gateway' CODEC(ZSTD(1)),
    replay_of Nullable(String) COMMENT 'epoch/partition/offset/row of the raw row that was replayed' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(received_at)
ORDER BY (device, received_at)
TTL toDateTime(received_at) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Accepted messages that are no telemetry, and connects and disconnects';

CREATE TABLE IF NOT EXISTS aggregates_1m
(
    device String COMMENT 'device id' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    window_start DateTime64(3, 'UTC') COMMENT 'begin of the window, by the time of the readings' CODEC(DoubleDelta, ZSTD(1)),
    window_ms Int32 COMMENT 'its length' CODEC(ZSTD(1)),
    part UInt8 COMMENT 'why it was written: 0 the window closed, 1 late readings, 2 before it closed' CODEC(ZSTD(1)),
    count Int64 COMMENT 'readings in this partial' CODEC(T64, ZSTD(1)),
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
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this partial for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record at which it was written' CODEC(Delta, ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.aggregates' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1,
    INDEX by_raw_bucket intDiv(raw_offset, 1024) TYPE minmax GRANULARITY 1,
    INDEX by_stored_at stored_at TYPE minmax GRANULARITY 1,
    PROJECTION by_bucket
    (
        SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024), count(), sum(count), sum(count * cityHash64(raw_offset))
        GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
    )
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(window_start)
ORDER BY (toDate(window_start), device, channel, metric, window_start)
TTL toDateTime(append_time) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Partial aggregates of windows of devices, disjoint: the view windows adds them up';

CREATE TABLE IF NOT EXISTS group_aggregates_1m
(
    scope LowCardinality(String) COMMENT 'what groups: role, site, model, firmware or another label of devices' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'the group: the value of that field or label' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    window_start DateTime64(3, 'UTC') COMMENT 'begin of the window, by the time of the readings' CODEC(DoubleDelta, ZSTD(1)),
    window_ms Int32 COMMENT 'its length' CODEC(ZSTD(1)),
    part UInt8 COMMENT 'why it was written: 0 the window closed, 1 late readings, 2 before it closed' CODEC(ZSTD(1)),
    count Int64 COMMENT 'readings in this partial' CODEC(T64, ZSTD(1)),
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
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this partial for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw; a group has devices in several' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record at which it was written' CODEC(Delta, ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.aggregates' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1,
    INDEX by_stored_at stored_at TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(window_start)
ORDER BY (scope, name, channel, metric, window_start)
TTL toDateTime(append_time) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Partial aggregates of windows of groups, disjoint: the view group_windows adds them up';

CREATE TABLE IF NOT EXISTS anomalies
(
    device String COMMENT 'device id' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'of the reading; of a silence when it was noticed' CODEC(DoubleDelta, ZSTD(1)),
    value Nullable(Float64) COMMENT 'of the reading; null for a silence' CODEC(ZSTD(1)),
    low Nullable(Float64) COMMENT 'expected at least; null where nothing is' CODEC(ZSTD(1)),
    high Nullable(Float64) COMMENT 'expected at most; null where nothing is' CODEC(ZSTD(1)),
    score Float64 COMMENT 'how strange: 0 to 1' CODEC(ZSTD(1)),
    severity UInt8 COMMENT '0 info, 1 warning, 2 critical' CODEC(ZSTD(1)),
    detector LowCardinality(String) COMMENT 'name of the detector in the settings' CODEC(ZSTD(1)),
    explanation String COMMENT 'one line' CODEC(ZSTD(1)),
    incident String COMMENT 'id of the incident it belongs to' CODEC(ZSTD(1)),
    publisher String COMMENT 'authenticated publisher: the device or its gateway' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'when the bridge read the message; of a silence when it was noticed' CODEC(DoubleDelta, ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this anomaly for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw: of the reading; of a silence where it was noticed' CODEC(Delta, ZSTD(1)),
    raw_row Nullable(UInt32) COMMENT 'with raw_epoch, raw_partition, raw_offset, reading_index the name of the reading; null for a silence' CODEC(ZSTD(1)),
    reading_index Nullable(UInt32) COMMENT 'position of the reading in its message; null for a silence' CODEC(ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.anomalies' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1,
    INDEX by_incident incident TYPE bloom_filter GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (device, channel, metric, time)
TTL toDateTime(append_time) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Readings that a detector found strange, and silences';

CREATE TABLE IF NOT EXISTS incidents
(
    incident String COMMENT 'id; parts of several partitions have one' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'what this row tells: opened, updated or closed' CODEC(ZSTD(1)),
    scope LowCardinality(String) COMMENT 'device, or what groups: role, site, model …' CODEC(ZSTD(1)),
    device String COMMENT 'device id; the name of the group where scope is not device' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'as in readings' CODEC(ZSTD(1)),
    detector LowCardinality(String) COMMENT 'name of the detector in the settings' CODEC(ZSTD(1)),
    severity UInt8 COMMENT '0 info, 1 warning, 2 critical' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time of this row' CODEC(DoubleDelta, ZSTD(1)),
    opened_at DateTime64(3, 'UTC') COMMENT 'time of the first strange reading' CODEC(DoubleDelta, ZSTD(1)),
    peak_at DateTime64(3, 'UTC') COMMENT 'time of the worst one' CODEC(DoubleDelta, ZSTD(1)),
    last_at DateTime64(3, 'UTC') COMMENT 'time of the last one' CODEC(DoubleDelta, ZSTD(1)),
    closed_at Nullable(DateTime64(3, 'UTC')) COMMENT 'null until it is closed' CODEC(ZSTD(1)),
    peak_value Nullable(Float64) COMMENT 'the worst value; null for a silence' CODEC(ZSTD(1)),
    peak_score Float64 COMMENT 'its score: 0 to 1' CODEC(ZSTD(1)),
    low Nullable(Float64) COMMENT 'expected at least at the peak; null where nothing is' CODEC(ZSTD(1)),
    high Nullable(Float64) COMMENT 'expected at most at the peak; null where nothing is' CODEC(ZSTD(1)),
    points Int64 COMMENT 'strange readings so far, of this partition' CODEC(T64, ZSTD(1)),
    devices Int64 COMMENT 'devices so far, of this partition' CODEC(T64, ZSTD(1)),
    explanation String COMMENT 'of the peak, one line' CODEC(ZSTD(1)),
    publisher Nullable(String) COMMENT 'in whose partition the series lives; null for groups' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this row for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record at which it was written' CODEC(Delta, ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.incidents' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1,
    INDEX by_incident incident TYPE bloom_filter GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (scope, device, incident, raw_partition, raw_offset)
TTL toDateTime(append_time) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'History of incidents: openings, changes, closings; the view incidents_current has the state of each';

CREATE TABLE IF NOT EXISTS presence
(
    device String COMMENT 'device id; a gateway''s children too' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'online or offline' CODEC(ZSTD(1)),
    reason LowCardinality(String) COMMENT 'telemetry, connected, disconnected, will, silence or removed' CODEC(ZSTD(1)),
    since DateTime64(3, 'UTC') COMMENT 'when it came or went, as far as is known' CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time at which that was decided' CODEC(DoubleDelta, ZSTD(1)),
    last_seen Nullable(DateTime64(3, 'UTC')) COMMENT 'receipt of the last message' CODEC(ZSTD(1)),
    expected_s Nullable(Float64) COMMENT 'how long it may be silent, as learned; null while that is not known' CODEC(ZSTD(1)),
    flaps Int32 COMMENT 'changes that damping kept back since the row before' CODEC(ZSTD(1)),
    publisher String COMMENT 'in whose partition it lives' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this change for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record at which it was written' CODEC(Delta, ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.presence' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (device, time)
TTL toDateTime(append_time) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'History of presence: one row a change';

-- Repeats change nothing here: of rows with one key the newest stays, whichever came last.
CREATE TABLE IF NOT EXISTS presence_newest
(
    device String COMMENT 'device id; the key' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'online or offline' CODEC(ZSTD(1)),
    reason LowCardinality(String) COMMENT 'telemetry, connected, disconnected, will, silence or removed' CODEC(ZSTD(1)),
    since DateTime64(3, 'UTC') COMMENT 'when it came or went, as far as is known' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time at which that was decided' CODEC(ZSTD(1)),
    last_seen Nullable(DateTime64(3, 'UTC')) COMMENT 'receipt of the last message before that' CODEC(ZSTD(1)),
    expected_s Nullable(Float64) COMMENT 'how long it may be silent, as learned; null while that is not known' CODEC(ZSTD(1)),
    flaps Int32 COMMENT 'changes that damping kept back since the row before' CODEC(ZSTD(1)),
    publisher String COMMENT 'in whose partition it lives' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, row: the name of this change for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record at which it was written' CODEC(ZSTD(1)),
    row UInt32 COMMENT 'row in the record' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.presence' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(ZSTD(1)),
    version UInt128 DEFAULT bitShiftLeft(toUInt128(toUnixTimestamp64Milli(time)), 64) + raw_offset COMMENT 'by which the newest is told: time, then place in the log' CODEC(ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${replacing}(version)
ORDER BY device
SETTINGS ${window}
COMMENT 'The newest change of each device, kept for ever; the view presence_current reads it';

CREATE OR REPLACE VIEW presence_current AS
SELECT device, state, reason, since, time, last_seen, expected_s, flaps, publisher, raw_epoch, raw_partition, raw_offset
FROM presence_newest FINAL;

CREATE TABLE IF NOT EXISTS ledger_derived
(
    topic LowCardinality(String) COMMENT 'topic of the record' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'epoch of telemetry.raw' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'raw record that it comes from' CODEC(DoubleDelta, ZSTD(1)),
    prev Int64 COMMENT 'raw record that the record before comes from; -1: there is none' CODEC(DoubleDelta, ZSTD(1)),
    epoch UInt16 COMMENT 'epoch of the topic' CODEC(ZSTD(1)),
    offset UInt64 COMMENT 'offset in the topic' CODEC(DoubleDelta, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'tick, data or control' CODEC(ZSTD(1)),
    rows UInt32 COMMENT 'rows in the record' CODEC(T64, ZSTD(1)),
    since DateTime64(3, 'UTC') COMMENT 'stream time after the record before, until this one' CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time of the record' CODEC(DoubleDelta, ZSTD(1)),
    readings Int64 COMMENT 'aggregates: readings since the record before' CODEC(T64, ZSTD(1)),
    folded Int64 COMMENT 'aggregates: of these put into windows' CODEC(T64, ZSTD(1)),
    texts Int64 COMMENT 'aggregates: of these texts, which have no number' CODEC(T64, ZSTD(1)),
    refused Int64 COMMENT 'aggregates: of these refused, because there are too many series' CODEC(T64, ZSTD(1)),
    emitted Int64 COMMENT 'aggregates: sum of count over the rows of devices' CODEC(T64, ZSTD(1)),
    open Int64 COMMENT 'aggregates: readings in windows not written yet' CODEC(T64, ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to the topic' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (topic, raw_epoch, raw_partition, intDiv(raw_offset, 1024), raw_offset)
TTL toDateTime(append_time) + toIntervalDay(${ledger_days})
SETTINGS ${window}
COMMENT 'What the records of the derived topics say of themselves, written after their rows';

ALTER TABLE ledger_facts ADD COLUMN IF NOT EXISTS events UInt32 DEFAULT 0 COMMENT 'rows of events' CODEC(T64, ZSTD(1)) AFTER readings;
