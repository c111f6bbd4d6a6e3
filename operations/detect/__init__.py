"""The residual detector over CSV files: what is strange in them, and files and pictures of it."""

from operations.detect.files import FileError, Table
from operations.detect.judged import Judged, judge, judge_all, write

__all__ = ["FileError", "Judged", "Table", "judge", "judge_all", "write"]
