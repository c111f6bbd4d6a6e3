"""Readings that an older decoder got wrong, decoded again from telemetry.raw."""
