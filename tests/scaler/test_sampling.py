"""Whom the scaler asks, and when: sample sizes, panels, and each node's own moment."""

import math
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_node.scaler.sampling import (
    FULL_UP_TO,
    health_every_s,
    is_due,
    panel,
    sample_size,
)

MANY = [f"agent-{i}" for i in range(1, 10_001)]


@pytest.mark.parametrize(
    ("population", "size"), [(0, 0), (1, 1), (10, 7), (61, 13), (100, 14), (10_000, 16)]
)
def test_sample_sizes_are_those_of_knative(population, size):
    assert sample_size(population) == size


def test_a_small_group_is_asked_everything_and_a_large_one_a_sample():
    small = MANY[:FULL_UP_TO]
    assert panel(small) == frozenset(small)
    assert len(panel(MANY)) == 16
    assert health_every_s(len(small)) < health_every_s(len(MANY))


def test_a_panel_changes_only_by_those_that_come_and_go():
    before = panel(MANY)
    gone = min(before)
    after = panel([node for node in MANY if node != gone])
    assert len(before - after) == 1
    assert panel([*MANY[1:], *MANY[:1]]) == before
    other = next(node for node in MANY if node not in before)
    assert panel([node for node in MANY if node != other]) == before


def test_the_panel_and_the_moments_are_the_same_in_another_process():
    code = (
        "from control_node.scaler.sampling import is_due, panel\n"
        "nodes = [f'agent-{i}' for i in range(1, 10_001)]\n"
        "print(sorted(panel(nodes)), [n for n in nodes[:200] if is_due(n, 100.0, 106.0, 10.0)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    due = [n for n in MANY[:200] if is_due(n, 100.0, 106.0, 10.0)]
    assert there.stdout.strip() == f"{sorted(panel(MANY))} {due}"


def test_a_large_group_is_asked_evenly_over_the_interval():
    last = dict.fromkeys(MANY, 1000.0)
    asked: Counter[int] = Counter()
    for second in range(1, 31):
        now = 1000.0 + second
        for node in MANY:
            if is_due(node, last[node], now, 10.0):
                last[node] = now
                asked[second] += 1
    assert all(900 < asked[second] < 1100 for second in range(16, 31))
    assert sum(asked[second] for second in range(11, 21)) == len(MANY)


names = st.from_regex(r"agent-[0-9]{1,4}", fullmatch=True)


@given(node=names, now=st.floats(0, 1e6), every_s=st.floats(0.05, 60))
def test_a_node_that_was_never_asked_is_due(node, now, every_s):
    assert is_due(node, -math.inf, now, every_s)


@given(
    node=names,
    last=st.floats(0, 1e6),
    waited=st.floats(0, 200),
    every_s=st.floats(0.05, 60),
)
def test_never_twice_in_half_an_interval_and_always_after_a_whole_one(node, last, waited, every_s):
    if waited < every_s * 0.499:
        assert not is_due(node, last, last + waited, every_s)
    if waited > every_s * 1.001 + 1e-6:
        assert is_due(node, last, last + waited, every_s)


def test_without_a_pause_everybody_is_due():
    assert is_due("agent-1", 5.0, 5.0, 0.0)
