"""Log files of every format as chunks of columns."""

from offline_eval.formats.registry import FORMATS, find, passed_over

__all__ = ["FORMATS", "find", "passed_over"]
