"""The order in which services start."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.errors import UsageProblem
from labcore.services import Unit
from server_manager.drivers.local.plan import start_order

NAMES = "abcdefg"


def unit(name: str, *after: str) -> Unit:
    return Unit(name, ("true",), None, {}, "/", after, 15, 1.0)


@st.composite
def units(draw: st.DrawFn) -> list[Unit]:
    """Any units without a circle: each is after some that come before it, then all are mixed."""
    made = [
        unit(name, *draw(st.sets(st.sampled_from(NAMES[:i] + "z")))) for i, name in enumerate(NAMES)
    ]
    return draw(st.permutations(made))


@given(units())
def test_each_stands_behind_those_it_is_after(given_units):
    order = [u.name for u in start_order(given_units)]
    assert sorted(order) == sorted(NAMES)
    for u in given_units:
        assert all(order.index(n) < order.index(u.name) for n in u.after if n in order)


def test_services_that_wait_for_one_another_are_refused():
    circle = [unit("a", "c"), unit("b", "a"), unit("c", "b"), dataclasses.replace(unit("d"))]
    with pytest.raises(UsageProblem) as refusal:
        start_order(circle)
    assert refusal.value.message == "services wait for one another: a after c after b after a"
