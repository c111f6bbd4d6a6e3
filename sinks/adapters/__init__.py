"""ClickHouse and Kafka as the sink uses them."""
