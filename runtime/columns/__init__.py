"""Columns as numpy and Arrow arrays: what every stage does to whole batches. Pure; no Kafka, no clock."""
