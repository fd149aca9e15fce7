"""Bandit learners, samplers and the exactly-once fold, free of sockets, files and clocks."""

__version__ = "0.1.0"
