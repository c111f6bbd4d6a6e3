"""Kafka clients with the settings the promises need, and the identity of topics."""
