-- What was received and what became of it: one row for each record of telemetry.raw in either table.
-- A bucket is 1024 offsets; its sums are kept by the engine inside each part, so they are never out of step with it.

CREATE TABLE IF NOT EXISTS ledger_received
(
    raw_epoch UInt16 COMMENT 'epoch of telemetry.raw' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(DoubleDelta, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'data, control or tick' CODEC(ZSTD(1)),
    received UInt32 COMMENT 'messages of devices in the record, by its own headers' CODEC(T64, ZSTD(1)),
    platform UInt32 COMMENT 'rows that the platform wrote itself' CODEC(T64, ZSTD(1)),
    replayed UInt32 COMMENT 'of received: replays of denied or dead messages' CODEC(T64, ZSTD(1)),
    bytes UInt32 COMMENT 'size of the value' CODEC(T64, ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.raw' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    PROJECTION by_bucket
    (
        SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024),
            count(), min(raw_offset), sum(raw_offset), sum(cityHash64(raw_offset)),
            sum(received), sum(replayed), sum(platform), sum(received * cityHash64(raw_offset))
        GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
    )
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (raw_epoch, raw_partition, intDiv(raw_offset, 1024), raw_offset)
TTL toDateTime(append_time) + toIntervalDay(${ledger_days})
SETTINGS ${window}
COMMENT 'What telemetry.raw holds, by its own headers';

CREATE TABLE IF NOT EXISTS ledger_facts
(
    raw_epoch UInt16 COMMENT 'epoch of telemetry.raw' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(DoubleDelta, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'data, control or tick' CODEC(ZSTD(1)),
    accepted UInt32 COMMENT 'messages stored' CODEC(T64, ZSTD(1)),
    denied UInt32 COMMENT 'messages the policy did not allow' CODEC(T64, ZSTD(1)),
    dead_letters UInt32 COMMENT 'messages that could not be read' CODEC(T64, ZSTD(1)),
    duplicates UInt32 COMMENT 'repeats, dropped' CODEC(T64, ZSTD(1)),
    replayed UInt32 COMMENT 'messages of the record that were replays' CODEC(T64, ZSTD(1)),
    missing UInt32 COMMENT 'sequence numbers given up: lost before the bridge' CODEC(T64, ZSTD(1)),
    readings UInt32 COMMENT 'readings of the accepted messages' CODEC(T64, ZSTD(1)),
    received_from DateTime64(3, 'UTC') COMMENT 'earliest received_at in the record' CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time of the record' CODEC(DoubleDelta, ZSTD(1)),
    readings_epoch UInt16 COMMENT 'epoch of telemetry.readings' CODEC(ZSTD(1)),
    readings_offset UInt64 COMMENT 'offset in telemetry.readings' CODEC(DoubleDelta, ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it to telemetry.readings' CODEC(DoubleDelta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(DoubleDelta, ZSTD(1)),
    PROJECTION by_bucket
    (
        SELECT raw_epoch, raw_partition, intDiv(raw_offset, 1024),
            count(), min(raw_offset), sum(raw_offset), sum(cityHash64(raw_offset)),
            sum(accepted), sum(denied), sum(dead_letters), sum(duplicates), sum(missing), sum(readings),
            sum((accepted + denied + dead_letters + duplicates) * cityHash64(raw_offset)),
            sum(readings * cityHash64(raw_offset)), min(received_from)
        GROUP BY raw_epoch, raw_partition, intDiv(raw_offset, 1024)
    )
)
ENGINE = ${engine}
PARTITION BY toYYYYMM(append_time)
ORDER BY (raw_epoch, raw_partition, intDiv(raw_offset, 1024), raw_offset)
TTL toDateTime(append_time) + toIntervalDay(${ledger_days})
SETTINGS ${window}
COMMENT 'The fate of what telemetry.raw holds, written after the rows themselves';
