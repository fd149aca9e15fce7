"""What --help says of modules that are slow to import; a test holds each against its source."""

from __future__ import annotations

FORMATS = ("own", "obp", "obd", "dsjson", "csv")
"""Keys of offline_eval.formats.FORMATS."""
INTERVALS = ("normal", "bootstrap", "empirical-bernstein", "cressie-read", "confseq")
"""Keys of offline_eval.intervals.METHODS."""
POLICIES = "uniform | logged | constant:ID | FILE.json | FILE.npz | module:function"
"""offline_eval.targets.GRAMMAR."""
MIN_ESS, MAX_WEIGHT_SHARE, MAX_UNSUPPORTED = 100.0, 0.25, 0.01
"""Of offline_eval.diagnostics.Thresholds."""
