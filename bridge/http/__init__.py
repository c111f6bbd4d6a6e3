"""HTTP in: what devices POST becomes rows of telemetry.raw, and 202 leaves after Kafka acknowledged."""
