"""Reports as JSON documents."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.report.document import plain_value, to_document
from offline_eval.result import Estimate, Report

NAN = float("nan")


@pytest.fixture
def report() -> Report:
    estimate = Estimate(
        "switch-dr(lam=5.3)", 0.5, (0.4, 0.6), "normal", 0.05, ("low ESS",), {"lam": np.float64(5.3), "by": "slope"}
    )
    return Report(
        200,
        Estimate("logged", 0.25, (0.2, 0.3), "normal", 0.025),
        {"switch-dr(lam=5.3)": estimate},
        {"ess": 150.0, "pareto_k": NAN},
        [Finding("users", Level.NOTE, "no users"), Finding("largest weight", Level.OK, "2 %")],
        about={"alpha": 0.05, "thresholds": Thresholds(min_ess=50), "left_out": {"exploit mode": 3}},
    )


def test_a_document_has_exactly_the_fields_of_the_contract(report):
    assert to_document(report) == {
        "n": 200,
        "baseline": {"value": 0.25, "interval": [0.2, 0.3], "interval_method": "normal", "standard_error": 0.025},
        "estimates": [
            {
                "estimator": "switch-dr(lam=5.3)",
                "value": 0.5,
                "interval": [0.4, 0.6],
                "interval_method": "normal",
                "standard_error": 0.05,
                "flags": ["low ESS"],
                "parameters": {"lam": 5.3, "by": "slope"},
            }
        ],
        "diagnostics": {"ess": 150.0, "pareto_k": None},
        "verdict": report.verdict,
        "reasons": [],
        "findings": [
            {"name": "users", "level": "note", "detail": "no users"},
            {"name": "largest weight", "level": "ok", "detail": "2 %"},
        ],
        "about": {
            "alpha": 0.05,
            "thresholds": {
                "min_ess": 50,
                "max_weight_share": 0.25,
                "max_unsupported": 0.01,
                "refuse_below": 1e-4,
                "warn_below": 0.01,
                "pareto_warn": 0.7,
            },
            "left_out": {"exploit mode": 3},
        },
    }


def test_a_refused_document_has_no_estimates_and_says_why(report):
    refused = replace(report, findings=[Finding("effective sample size", Level.REFUSE, "3 of 200")])
    document = to_document(refused)
    assert document["estimates"] == []
    assert document["verdict"].startswith("refused")
    assert document["reasons"] == ["effective sample size: 3 of 200"]
    assert set(document) == set(to_document(report))
    assert document["baseline"]["value"] == 0.25


def test_numbers_that_are_not_finite_become_null(report):
    empty = Estimate("snips", NAN, (float("-inf"), float("inf")), "cressie-read", NAN)
    document = to_document(replace(report, estimates={"snips": empty}, baseline=empty))
    text = json.dumps(document, allow_nan=False)
    read = json.loads(text)
    assert read["estimates"][0]["value"] is None
    assert read["estimates"][0]["interval"] == [None, None]
    assert read["baseline"]["standard_error"] is None


def test_values_of_numpy_become_those_of_json():
    value = {"a": np.int64(3), "b": np.array([1.5, NAN]), "c": (np.bool_(True), None), 4: {"d": Level.WARN}}
    assert json.loads(json.dumps(plain_value(value))) == {"a": 3, "b": [1.5, None], "c": [True, None], "4": {"d": 2}}
