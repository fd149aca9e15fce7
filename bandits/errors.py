"""Faults of the command line that are the caller's to mend."""


class UsageError(Exception):
    """Bad input or a refused start. The message is one line: where, what, how to mend. Exit status 2."""
