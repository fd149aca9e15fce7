"""The memory of a server under load, as the benchmark sees it."""

from __future__ import annotations

import pytest

from load_tests.growth import growth


def test_dedupe_bits_are_as_large_as_the_number_of_decisions_says():
    """Decisions of ten items own 21 bits each; a chunk that is begun counts whole, at most one a partition."""
    report = growth(minutes=1, warm_up=1, minute_s=0.1, requests=4000)
    first, last = report["rows"]
    assert last["decisions"] > first["decisions"] > 4000
    for row in report["rows"]:
        assert row["rest"] == pytest.approx(row["resident"] - row["dedupe"])
        assert row["dedupe"] == pytest.approx(row["dedupe_predicted"], rel=0.1)
    assert report["grown"] == last["rest"] / first["rest"] - 1
