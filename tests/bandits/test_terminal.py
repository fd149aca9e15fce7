"""Control characters reach only terminals that want them."""

from __future__ import annotations

import io

import pytest

from bandits.terminal import Terminal


@pytest.mark.parametrize(("no_color", "escapes"), [("1", False), ("", True)])
def test_no_color_leaves_no_control_characters_not_even_of_bold(monkeypatch, no_color, escapes):
    monkeypatch.setenv("NO_COLOR", no_color)
    file = io.StringIO()
    Terminal(file=file, force_terminal=True).print("text", style="bold")
    assert ("\x1b" in file.getvalue()) == escapes
    assert "text" in file.getvalue()
