"""A broker with Millrace's topics, and a reader of telemetry.raw: those of the bridges' tests."""

from tests.bridge.conftest import raw, spine

__all__ = ["raw", "spine"]
