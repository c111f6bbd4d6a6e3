"""ClickHouse's tables and platform.control as files, and back."""
