import json
import re
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
    assert err.startswith("banditd bench: 'nope' is no benchmark; they are kernels, ")
    assert err.count("\n") == 1


def test_without_a_name_all_are_run_the_quick_and_in_process_ones_first():
    assert list(bench.BENCHMARKS) == [
        "kernels",
        "delay",
        "conversions",
        "selection",
        "coverage",
        "adload",
        "ope",
        "digits",
        "delay_http",
        "worlds",
        "visibility",
        "throughput",
        "growth",
    ]


def test_digits_fit_a_terminal_of_80_columns(monkeypatch, capsys):
    """Median and range share a cell; what all rows have in common stands below."""
    monkeypatch.setenv("COLUMNS", "80")

    def row(policy, over, mean):
        first = {"first_2000": mean, "first_2000_min": mean - 0.01, "first_2000_max": mean + 0.01}
        last = {"last_2000": mean, "last_2000_min": mean - 0.004, "last_2000_max": mean + 0.005}
        return {"policy": policy, "over": over, "runs": 5, "requests": 20_000, **first, **last, "mean": mean}

    rows = [row("diag_linucb published", "HTTP", 0.9651), row("uniform", "in process", 0.1003)]
    document = report.Document(
        name="digits", about="by whom", machine=report.machine(), rows=rows, figures={"note": "one [b]"}
    )
    report.show(document)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    served = ["diag_linucb published", "HTTP", ".965 (.955-.975)", ".965 (.961-.970)", "0.9651"]
    random = ["uniform", "in process", ".100 (.090-.110)", ".100 (.096-.105)", "0.1003"]
    cells = [re.split("  +", line.strip()) for line in lines]
    assert served in cells
    assert random in cells
    assert lines[-3:] == ["runs: 5", "requests: 20000", "note: one [b]"]
    page = report.markdown(document)
    assert "| policy | over | first_2000 | last_2000 | mean |\n" in page
    assert f"| {' | '.join(served)} |\n" in page
    assert "- runs: 5\n- requests: 20000\n- note: one [b]\n" in page


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ((0.965, 0.9612, 0.9704), ".965 (.961-.970)"),
        ((0.05, 0.04, 0.0612), ".050 (.040-.061)"),
        ((1.0, 0.95, 1.25), "1.00 (0.95-1.25)"),
        ((1234.5, 1100.0, 1300.2), "1,234 (1,100-1,300)"),
        ((-0.5, -0.75, 0.25), "-.500 (-.750 to .250)"),
        ((0.0, 0.0, 0.0), "0 (0-0)"),
    ],
)
def test_a_median_and_its_range_have_equal_decimals(cells, shown):
    assert report.spread(*cells) == shown


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
