"""Log files of every format as chunks of columns."""

from offline_eval.formats.registry import FORMATS, find

__all__ = ["FORMATS", "find"]
