-- What operators decided in band: settings of stages, and what they said of incidents.

CREATE TABLE IF NOT EXISTS stage_settings
(
    stage LowCardinality(String) COMMENT 'aggregate, anomaly, presence …' CODEC(ZSTD(1)),
    settings String COMMENT 'as published, JSON' CODEC(ZSTD(3)),
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
ORDER BY (stage, version_epoch, version_offset, raw_epoch, raw_partition, raw_offset)
SETTINGS ${window}
COMMENT 'History of the settings of stages; kept for ever';

CREATE TABLE IF NOT EXISTS incident_marks
(
    incident String COMMENT 'id' CODEC(ZSTD(1)),
    mark LowCardinality(String) COMMENT 'false-alarm or confirmed; empty: taken back' CODEC(ZSTD(1)),
    said_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the operator said it' CODEC(ZSTD(1)),
    said String COMMENT 'as published, JSON' CODEC(ZSTD(1)),
    version_epoch UInt16 COMMENT 'epoch of platform.control' CODEC(ZSTD(1)),
    version_offset UInt64 COMMENT 'offset in platform.control' CODEC(ZSTD(1)),
    raw_epoch UInt16 COMMENT 'in force in this partition from this raw record on' CODEC(ZSTD(1)),
    raw_partition UInt16 COMMENT 'partition of telemetry.raw; marks of groups go to all' CODEC(ZSTD(1)),
    raw_offset UInt64 COMMENT 'offset in telemetry.raw' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'stream time' CODEC(ZSTD(1)),
    append_time DateTime64(3, 'UTC') COMMENT 'when Kafka appended it' CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when the sink wrote it' CODEC(ZSTD(1))
)
ENGINE = ${engine}
PARTITION BY toYear(append_time)
ORDER BY (incident, version_epoch, version_offset, raw_epoch, raw_partition, raw_offset)
SETTINGS ${window}
COMMENT 'What operators said of incidents; kept for ever';
