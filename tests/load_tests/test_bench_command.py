import json
from types import MappingProxyType

import pytest

from load_tests import bench, report
from load_tests.visibility import histogram_p99
from service.cli import main


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "results_directory", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    def two_rows(quick):
        """Two of them."""
        rows = [{"name": "a|b", "ms": 1234.5}, {"name": "c", "ms": None if quick else 0.5}]
        return report.Result(rows=rows, figures={"ratio": 0.25})

    monkeypatch.setattr(bench, "BENCHMARKS", MappingProxyType({"small": two_rows}))


def test_a_benchmark_is_printed_and_written_down(small, results, capsys):
    assert main(["bench", "small"]) == 0
    out, err = capsys.readouterr()
    assert "1,234" in out
    assert "ratio: 0.25" in out
    assert "wrote" in err
    page = (results / "small.md").read_text()
    assert "| name | ms |\n| --- | --- |\n| a\\|b | 1,234 |\n| c | 0.5 |\n\n- ratio: 0.25\n" in page
    document = json.loads((results / "small.json").read_text())
    assert document["rows"][1] == {"name": "c", "ms": 0.5}
    assert set(document["machine"]) == {"cpus", "architecture", "system", "python", "banditd", "date"}


def test_quick_writes_nothing_and_json_prints_one_document(small, results, capsys):
    assert main(["bench", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["small"]["rows"][1]["ms"] is None
    assert list(results.iterdir()) == []


def test_an_unknown_name_is_bad_input(capsys):
    assert main(["bench", "nope"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("banditd bench: 'nope' is no benchmark; they are digits, ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["kernels", "throughput", "visibility"])
def test_the_quick_form_of_a_benchmark_runs(name, capsys):
    assert main(["bench", name, "--quick", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == name
    if name == "throughput":
        assert [row["server"] for row in document["rows"]] == ["banditd", "FastAPI + pydantic"]
        assert [row["errors"] for row in document["rows"]] == [0, 0]
        ours, theirs = (row["answer_bytes"] for row in document["rows"])
        assert abs(ours - theirs) < 0.05 * theirs
    if name == "visibility":
        assert document["figures"]["server_rewards"] == sum(row["rewards"] for row in document["rows"])


def test_the_p99_of_a_histogram_is_the_edge_of_its_bucket():
    """Of 200 values 198 lie at or below 0.1 s: the 99th percentile is in that bucket."""
    lines = [("0.05", "100.0"), ("0.1", "198.0"), ("+Inf", "200.0")]
    text = "\n".join(f'banditd_feedback_to_score_seconds_bucket{{le="{edge}"}} {count}' for edge, count in lines)
    assert histogram_p99(text) == (200, 0.1)
