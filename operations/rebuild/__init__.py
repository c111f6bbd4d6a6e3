"""A table built again from its topic, and swapped in."""

from operations.rebuild.run import TABLES, RebuildResult, rebuild

__all__ = ["TABLES", "RebuildResult", "rebuild"]
