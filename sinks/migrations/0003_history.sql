-- Who was allowed what, when: policies and registry events as they came into force, in band, at an offset.

CREATE TABLE IF NOT EXISTS policies
(
    version_epoch UInt16 COMMENT 'epoch of platform.control' CODEC(ZSTD(1)),
    version_offset UInt64 COMMENT 'offset in platform.control' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'in force in this partition from this raw record on' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time' CODEC(ZSTD(1)),
    policy String COMMENT 'the policy as published, JSON' CODEC(ZSTD(3)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(ZSTD(1))
)
ENGINE = ${engine}
PARTITION BY toYear(append_time)
ORDER BY (version_epoch, version_offset, raw_epoch, raw_partition, raw_offset)
SETTINGS ${window}
COMMENT 'History of policies; kept for ever';

CREATE TABLE IF NOT EXISTS devices
(
    device String COMMENT 'device id' CODEC(ZSTD(1)),
    role LowCardinality(String) COMMENT 'what it may do' CODEC(ZSTD(1)),
    state LowCardinality(String) COMMENT 'active or removed' CODEC(ZSTD(1)),
    parent Nullable(String) COMMENT 'its gateway' CODEC(ZSTD(1)),
    labels Map(LowCardinality(String), String) COMMENT 'given by operators' CODEC(ZSTD(1)),
    version_epoch UInt16 COMMENT 'epoch of platform.control' CODEC(ZSTD(1)),
    version_offset UInt64 COMMENT 'offset in platform.control' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'in force in this partition from this raw record on' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(ZSTD(1))
)
ENGINE = ${engine}
PARTITION BY toYear(append_time)
ORDER BY (device, version_epoch, version_offset, raw_epoch, raw_partition, raw_offset)
SETTINGS ${window}
COMMENT 'History of the registry; kept for ever';
