"""Whether it is known what could have been chosen, where graphs alone tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds

NAMED = 3
"""Versions of graphs told at a time."""


def not_given(graphless: Mapping[str, int], n: int) -> str:
    """One sentence: rows of n that leave their candidates to a graph that was not given, by its version, and the flag
    that gives it.
    """
    versions = sorted(graphless, key=lambda version: -graphless[version])
    more = f" and {len(versions) - NAMED:,} more" if len(versions) > NAMED else ""
    named = f"graph{'s' * (len(versions) > 1)} {', '.join(versions[:NAMED])}{more}"
    rows = sum(graphless.values())
    return f"{rows:,} of {n:,} rows leave them to {named}, not given; add --graph FILE, or --graph DATA/graphs"


def beside_graphs(
    findings: Sequence[Finding], policies: Sequence[str], graphless: Mapping[str, int], n: int, limits: Thresholds
) -> list[Finding]:
    """Findings of an evaluation, and what graphs that were not given leave open.

    policies   that are evaluated
    graphless  rows that leave their candidates to a graph that was not given, by its version

    The uniform policy cannot be known there, so its weights say nothing of the propensities.
    """
    if not graphless or all(policy == "logged" for policy in policies):
        return list(findings)
    open_uniform = "uniform" in policies and sum(graphless.values()) > limits.max_unsupported * n
    level = Level.REFUSE if open_uniform else Level.WARN
    made = [Finding("candidates", level, not_given(graphless, n))]
    for one in findings:
        of_other = one.name != "mean weight"
        blames = one.name.startswith("mean weight") and policies[of_other] == "uniform"
        made.append(untested(one) if blames else one)
    return made


def untested(finding: Finding) -> Finding:
    """A test of the weights that rests on candidates that are unknown."""
    detail = f"{finding.detail.split(':')[0]}; says nothing where candidates are unknown"
    return replace(finding, level=Level.NOTE, detail=detail)
