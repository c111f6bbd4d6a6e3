"""Adapters of bridge-http: aiohttp towards devices, Kafka for the registry."""
