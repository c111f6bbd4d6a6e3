-- What devices said: one row a reading, denied and dead messages apart with their bytes and the reason.
-- Every statement may run again after a crash: IF NOT EXISTS everywhere.

CREATE TABLE IF NOT EXISTS readings
(
    device String COMMENT 'whose reading it is; for gateways the child' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'from the topic: d/{device}/telemetry/{channel}; empty for other topics' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'dotted path in the payload' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'when the device says it was measured; received_at if it does not say' CODEC(DoubleDelta, ZSTD(1)),
    value Nullable(Float64) COMMENT 'number (true 1, false 0); null when the reading is text' CODEC(Gorilla, ZSTD(1)),
    text Nullable(String) COMMENT 'text reading; null when it is a number' CODEC(ZSTD(1)),
    quality UInt8 COMMENT 'bits: 1 below the range of the policy, 2 above it; 0 is good' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'when the bridge read the message' CODEC(DoubleDelta, ZSTD(1)),
    boot Nullable(Int64) COMMENT 'boot counter of the publisher' CODEC(ZSTD(1)),
    seq Nullable(Int64) COMMENT 'sequence number within the boot' CODEC(Delta, ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, raw_row, reading_index: the name of this reading for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(Delta, ZSTD(1)),
    raw_row UInt32 COMMENT 'row in the raw record' CODEC(ZSTD(1)),
    reading_index UInt32 COMMENT 'position of the reading in its message' CODEC(ZSTD(1)),
    publisher String COMMENT 'authenticated publisher: the device or its gateway' CODEC(ZSTD(1)),
    replay_of Nullable(String) COMMENT 'epoch/partition/offset/row of the raw row that was replayed' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1,
    INDEX by_raw_bucket intDiv(raw_offset, 1024) TYPE minmax GRANULARITY 1,
    PROJECTION by_bucket
    (
        SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024), count(), sum(cityHash64(raw_offset))
        GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
    )
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(time)
ORDER BY (device, channel, metric, time)
TTL toDateTime(received_at) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Accepted readings, each exactly once';

CREATE TABLE IF NOT EXISTS denied
(
    device String COMMENT 'device the message is about' CODEC(ZSTD(1)),
    publisher String COMMENT 'authenticated publisher' CODEC(ZSTD(1)),
    reason String COMMENT 'rule: detail' CODEC(ZSTD(1)),
    rule LowCardinality(String) DEFAULT splitByChar(':', reason)[1] COMMENT 'the rule that denied it' CODEC(ZSTD(1)),
    topic Nullable(String) COMMENT 'MQTT topic' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'from the topic; empty for other topics' CODEC(ZSTD(1)),
    payload Nullable(String) COMMENT 'bytes as they came' CODEC(ZSTD(1)),
    content_type Nullable(String) COMMENT 'as given by the device' CODEC(ZSTD(1)),
    ts Nullable(String) COMMENT 'time as given by the device, unread' CODEC(ZSTD(1)),
    boot Nullable(Int64) COMMENT 'boot counter of the publisher' CODEC(ZSTD(1)),
    seq Nullable(Int64) COMMENT 'sequence number within the boot' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'when the bridge read the message' CODEC(DoubleDelta, ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, raw_row: the name of this message for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(Delta, ZSTD(1)),
    raw_row UInt32 COMMENT 'row in the raw record' CODEC(ZSTD(1)),
    replay_of Nullable(String) COMMENT 'epoch/partition/offset/row of the raw row that was replayed' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(received_at)
ORDER BY (device, received_at)
TTL toDateTime(received_at) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Messages that the policy did not allow, with their bytes: millrace replay denied';

CREATE TABLE IF NOT EXISTS dead_letters
(
    device String COMMENT 'device the message is about' CODEC(ZSTD(1)),
    publisher String COMMENT 'authenticated publisher' CODEC(ZSTD(1)),
    reason String COMMENT 'rule: detail' CODEC(ZSTD(1)),
    rule LowCardinality(String) DEFAULT splitByChar(':', reason)[1] COMMENT 'the rule that it broke' CODEC(ZSTD(1)),
    topic Nullable(String) COMMENT 'MQTT topic' CODEC(ZSTD(1)),
    channel LowCardinality(String) COMMENT 'from the topic; empty for other topics' CODEC(ZSTD(1)),
    payload Nullable(String) COMMENT 'bytes as they came' CODEC(ZSTD(1)),
    content_type Nullable(String) COMMENT 'as given by the device' CODEC(ZSTD(1)),
    ts Nullable(String) COMMENT 'time as given by the device, unread' CODEC(ZSTD(1)),
    boot Nullable(Int64) COMMENT 'boot counter of the publisher' CODEC(ZSTD(1)),
    seq Nullable(Int64) COMMENT 'sequence number within the boot' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'when the bridge read the message' CODEC(DoubleDelta, ZSTD(1)),
    raw_epoch UInt16 COMMENT 'with raw_partition, raw_offset, raw_row: the name of this message for ever' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(Delta, ZSTD(1)),
    raw_row UInt32 COMMENT 'row in the raw record' CODEC(ZSTD(1)),
    replay_of Nullable(String) COMMENT 'epoch/partition/offset/row of the raw row that was replayed' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(received_at)
ORDER BY (device, received_at)
TTL toDateTime(received_at) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Messages that could not be read, with their bytes: millrace replay dead-letters';
