"""Where bridge-http touches the world: aiohttp towards devices, Kafka for the registry."""
