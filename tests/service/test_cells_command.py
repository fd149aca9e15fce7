"""banditd cells reads the default data directory where it is told none."""

from __future__ import annotations

import json

import pytest

from service import cli
from tests.service.harness import running


def test_without_a_source_it_is_the_default_data_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "banditd-data") as server:
        server.reward(server.recommend(items=["a"]), 1.0)
        server.settle()
        shown = server.cells()
    assert cli.main(["cells", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["surface"] == shown["surface"]
    assert [(cell["arm"], cell["reward_sum"]) for cell in document["cells"]] == [("a", 1.0)]


def test_where_there_is_none_it_says_which_was_looked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cells"]) == 2
    assert "banditd-data/log.sqlite: not there" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["x", "./banditd-data"])
def test_two_sources_are_one_too_many(data, capsys):
    assert cli.main(["cells", "--data", data, "--url", "http://127.0.0.1:1"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_ids_that_look_like_markup_are_shown_as_they_are(tmp_path, capsys):
    with running(tmp_path / "data") as server:
        server.recommend(items=["[/b]", "[bold]x[/bold]"], n=2, features={"[red]": 1.0})
        server.settle()
    assert cli.main(["cells", "--data", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert "[/b]" in shown
    assert "[bold]x[/bold]" in shown
