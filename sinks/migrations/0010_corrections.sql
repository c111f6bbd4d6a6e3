-- Readings that a corrected decoder replaced, and what was done when: millrace correct.

CREATE TABLE IF NOT EXISTS readings_superseded
(
    correction String COMMENT 'the correction that replaced it: see corrections' CODEC(ZSTD(1)),
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
    stored_at DateTime64(3, 'UTC') COMMENT 'when it was written first' CODEC(DoubleDelta, ZSTD(1)),
    INDEX by_raw_offset raw_offset TYPE minmax GRANULARITY 1
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(time)
ORDER BY (correction, device, channel, metric, time)
TTL toDateTime(received_at) + toIntervalDay(${retention_days})
SETTINGS ${window}
COMMENT 'Readings as they stood before a correction took their place';

CREATE TABLE IF NOT EXISTS corrections
(
    correction String COMMENT 'its name: when it began' CODEC(ZSTD(1)),
    phase LowCardinality(String) COMMENT 'begun, inserted (both stand in readings) or done' CODEC(ZSTD(1)),
    since DateTime64(3, 'UTC') COMMENT 'messages that Kafka appended at or after' CODEC(ZSTD(1)),
    until DateTime64(3, 'UTC') COMMENT 'and before' CODEC(ZSTD(1)),
    messages UInt64 COMMENT 'messages whose readings were replaced' CODEC(ZSTD(1)),
    readings UInt64 COMMENT 'readings that were replaced by as many' CODEC(ZSTD(1)),
    recounted UInt64 COMMENT 'messages left as they were: they would have another number of readings' CODEC(ZSTD(1)),
    refused UInt64 COMMENT 'messages left as they were: they would be refused today' CODEC(ZSTD(1)),
    logic UInt32 COMMENT 'logic version of access that read them anew' CODEC(ZSTD(1)),
    began_at DateTime64(3, 'UTC') COMMENT 'readings of the correction were stored after' CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when this phase was reached' CODEC(ZSTD(1))
)
ENGINE = ${engine}
ORDER BY (correction, at)
SETTINGS ${window}
COMMENT 'What millrace correct did, a row a phase; kept for ever';
