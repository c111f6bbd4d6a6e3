"""The MQTT bridge: a broker's uplink into telemetry.raw, acknowledged only when Kafka holds it. See README.md."""
