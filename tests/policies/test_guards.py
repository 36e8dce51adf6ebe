"""Metrics that are missing or lie must never empty a group."""

import pytest

from control_node.policies import Action, NodeSample, Observation
from labcore.wire.lab import Scaling
from tests.policies.builders import Course, group, once

SCALING = Scaling(cooldown_in_s=0)


def with_silent(observation: Observation, silent: int) -> Observation:
    spoken = len(observation.samples) - silent
    samples = observation.samples[:spoken] + tuple(
        NodeSample(s.node, None, None) for s in observation.samples[spoken:]
    )
    return Observation(samples, observation.desired, observation.booting)


def test_one_silent_node_keeps_the_group_from_shrinking():
    verdict = once(with_silent(group(1.0, 5, memory=10.0), 1), SCALING)
    assert verdict.action is Action.HOLD
    assert verdict.vetoes == ("no word from agent-5: a group shrinks only when 5 of 5 nodes speak",)


@pytest.mark.parametrize(
    ("cpu", "silent", "veto"),
    [
        (20.0, 1, ""),  # (19 x 20 + 100) / 20 = 24
        (27.0, 1, "no word from agent-20: counted as busy, the average is CPU 30.6 %"),
        (1.0, 3, "agent-18, agent-19, agent-20: a group shrinks only when 18 of 20 nodes speak"),
    ],
)
@pytest.mark.parametrize("periods", [1, 3])
def test_in_a_large_group_a_few_silent_nodes_count_as_busy(cpu, silent, veto, periods):
    course = Course(Scaling(max=30, evaluation_periods=periods))
    for _ in range(periods):
        verdict = course.step(with_silent(group(cpu, 20, memory=10.0), silent))
    assert verdict.action is (Action.HOLD if veto else Action.IN)
    assert veto in "; ".join(verdict.vetoes)


def test_many_silent_nodes_are_not_all_named():
    verdict = once(with_silent(group(1.0, 5, memory=10.0), 5), SCALING)
    assert verdict.action is Action.HOLD
    verdict = once(with_silent(group(90.0, 5), 4), SCALING)
    assert "agent-2, agent-3, agent-4 and 1 more" in verdict.vetoes[0]


@pytest.mark.parametrize(("cpu", "action"), [(95.0, Action.OUT), (90.0, Action.HOLD)])
def test_silent_nodes_count_as_idle_when_growing(cpu, action):
    """4 nodes, 1 silent: 95 x 3 / 4 = 71.25 is still above 70, 90 x 3 / 4 = 67.5 is not."""
    assert once(with_silent(group(cpu, 4), 1), SCALING).action is action


def test_half_a_sample_is_a_missing_one():
    samples = (*group(1.0, 2, memory=1.0).samples, NodeSample("agent-3", 1.0, None))
    assert once(Observation(samples, 3), SCALING).action is Action.HOLD


@pytest.mark.parametrize(
    ("memory", "in_flight", "said"),
    [
        (0.0, None, "and memory reads 0 %"),
        (35.0, None, "and memory has not moved from 35 %"),
        (30.0, 2, "with 6 requests in flight"),
    ],
)
def test_a_busy_group_that_reads_zero_is_suspect_for_as_long_as_it_does(memory, in_flight, said):
    course = Course(SCALING)
    course.step(group(60.0, memory=35.0))
    for _ in range(300):
        verdict = course.step(group(0.0, memory=memory, in_flight=in_flight))
        assert verdict.action is Action.HOLD
        assert verdict.vetoes[0].startswith("suspect metrics: CPU fell from 60 % to exactly 0 %")
        assert said in verdict.vetoes[0]


@pytest.mark.parametrize(
    ("before", "observation"),
    [
        (group(60.0, memory=35.0), group(0.0, memory=34.0, in_flight=0)),  # memory moved
        (group(5.0, memory=20.0), group(0.0, memory=20.0)),  # was not busy
        (group(60.0, memory=20.0), group(0.3, memory=20.0)),  # not exactly zero
        (group(25.0, memory=20.0), group(25.0, memory=20.0)),  # equal is no sign of anything
    ],
)
def test_zero_or_equal_metrics_alone_are_no_veto(before, observation):
    course = Course(Scaling(cooldown_in_s=0, evaluation_periods=1))
    course.step(before)
    course.history = type(course.history)(last_active=course.history.last_active)
    assert course.step(observation).action is Action.IN


def test_an_idle_group_that_reads_zero_from_the_start_shrinks():
    assert once(group(0.0, memory=20.0), SCALING).action is Action.IN
