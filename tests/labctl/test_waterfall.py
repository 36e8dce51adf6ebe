"""Where the time went, for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.ui import console, marks
from labctl.ui.waterfall import show_waterfall

GATES = ("created", "booted", "configured", "ssh", "healthy", "serving")
STEPS = {
    "agent-1": {"created": 0.5, "booted": 1.0, "configured": 40.0, "ssh": 2.5, "healthy": 36.0},
    "control": {"created": 0.5, "booted": 1.0, "configured": 20.0},
}


@pytest.mark.parametrize("width", ["80", "120"])
def test_the_table_fits_the_terminal(width: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr("labctl.ui.waterfall.looked_at", lambda stream: True)
    show_waterfall(STEPS, GATES)
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 3
    assert lines[0].split() == [*GATES[:5], "seconds"]
    assert lines[1].split()[:7] == ["agent-1", "0.5", "1.0", "40.0", "2.5", "36.0", "80.0"]
    assert all(len(line) <= int(width) for line in lines)
    assert lines[2].split()[:5] == ["control", "0.5", "1.0", "20.0", "21.5"]


def test_what_was_quick_is_not_worth_telling(capsys) -> None:
    show_waterfall({"agent-1": {"created": 0.1, "booted": 0.2}}, GATES)
    show_waterfall({}, GATES)
    assert capsys.readouterr().err == ""


def test_a_terminal_that_shows_no_more_than_ascii() -> None:
    assert console.unicode_ok(console.progress_console()) in (True, False)
    assert marks.segments((1.0, 2.0, 1.0), 4.0, 8, fancy=False) == "##----##"
    assert marks.segments((1.0, 2.0, 1.0), 8.0, 8, fancy=True) == "█░░█"


@given(
    parts=st.lists(st.floats(0, 1e4), max_size=8), more=st.floats(0, 100), width=st.integers(1, 60)
)
def test_a_bar_is_as_long_as_its_parts(parts: list[float], more: float, width: int) -> None:
    whole = sum(parts) + more
    bar = marks.segments(parts, whole, width, fancy=True)
    exact = width * sum(parts) / whole if whole > 0 else 0.0
    assert abs(len(bar) - exact) <= 0.51
