"""Every metric has a line in the runbook, and every line a metric."""

import re
from pathlib import Path

from service.metrics import Metrics

RUNBOOK = (Path(__file__).parent.parent / "docs" / "runbook.md").read_text()


def test_the_runbook_names_exactly_the_metrics_there_are():
    exported = set(re.findall(r"^# TYPE (\w+)", Metrics().text().decode(), re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+)", RUNBOOK, re.MULTILINE)) == exported
