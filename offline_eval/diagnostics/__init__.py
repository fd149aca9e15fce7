"""diagnostics of off-policy evaluation."""

from offline_eval.diagnostics.diagnosis import Diagnosis
from offline_eval.diagnostics.duplicates import duplicates, repeated
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.fingerprints import Fingerprints
from offline_eval.diagnostics.slices import middles
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.diagnostics.users import users, without_user
from offline_eval.diagnostics.verdict import verdict

__all__ = [
    "Diagnosis",
    "Finding",
    "Fingerprints",
    "Level",
    "Thresholds",
    "duplicates",
    "middles",
    "repeated",
    "users",
    "verdict",
    "without_user",
]
