"""Laws of the small plotting code."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.report.svg import Axis, area, clock_text, line, nice_step, tag, ticks, time_step

X = Axis(0, 10, 0, 100)
Y = Axis(0, 10, 50, 0)


@given(st.floats(1e-6, 1e9), st.integers(1, 12))
def test_a_nice_step_is_1_2_or_5_and_gives_few_ticks(span: float, most: int):
    step = nice_step(span, most)
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(lead - nice) for nice in (1, 2, 5, 10)) < 1e-6
    assert len(ticks(span, step)) <= most + 1


@given(st.floats(1, 90_000))
def test_a_time_axis_never_has_more_than_13_ticks(seconds: float):
    assert 1 <= len(ticks(seconds, time_step(seconds))) <= 13


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_is_drawn_outside_of_an_axis(value: float):
    assert 0 <= Y.px(value) <= 50
    assert 0 <= X.px(value) <= 100


def test_an_axis_of_no_length_is_no_division_by_zero():
    assert Axis(0, 0, 5, 10).px(3) == 5


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot():
    shown = line([(0, 0), (5, 10), (6, None), (8, 5)], X, Y, stroke="#000")
    assert 'd="M0.0 50.0 L50.0 0.0 M80.0 25.0 L80.0 25.0"' in shown
    assert line([(1, None)], X, Y) == ""


def test_an_area_is_closed_at_the_ground():
    assert 'd="M0.0 50.0 L0.0 0.0 L100.0 25.0 L100.0 50.0 Z"' in area([(0, 10), (10, 5)], X, Y)
    assert area([], X, Y) == ""


def test_tags_escape_and_leave_out_what_is_none():
    made = tag("text", "<&>", tag("b", "x"), class_='a"b', stroke_width=2.5, dash=None)
    assert made == '<text class="a&#34;b" stroke-width="2.5">&lt;&amp;&gt;<b>x</b></text>'


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3600, "60:00")])
def test_clock_text(seconds: float, text: str):
    assert clock_text(seconds) == text
