"""Bandit learners, samplers and the exactly-once fold, free of sockets, files and clocks."""

from bandits.diag_linucb import DiagLinUCB

__all__ = ["DiagLinUCB"]
__version__ = "0.1.0"
