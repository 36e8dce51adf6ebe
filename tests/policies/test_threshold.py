"""The brief's rule, case by case and over every small state."""

import itertools

import pytest

from control_node.policies import Action, History, check, decide
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling
from tests.policies.builders import Course, group, once

SCALING = Scaling(min=2, max=10)


@pytest.mark.parametrize(
    ("observation", "action", "count", "said"),
    [
        (group(82.0), Action.OUT, 4, "average CPU 82 % is above 70 %"),
        (group(70.0), Action.HOLD, 3, "no limit is crossed: average CPU 70 %, memory 50 %"),
        (group(70.4), Action.OUT, 4, "average CPU 70.4 % is above 70 %"),
        (group(10.0, memory=81.0), Action.OUT, 4, "average memory 81 % is above 80 %"),
        (group(29.0, memory=39.0), Action.IN, 2, "average CPU 29 % is below 30 %"),
        (group(30.0, memory=39.0), Action.HOLD, 3, "no limit is crossed"),
        (group(29.0, memory=40.0), Action.HOLD, 3, "no limit is crossed"),
        (group(5.0, 2, memory=5.0), Action.HOLD, 2, "2 nodes is the minimum"),
        (group(99.0, 10), Action.HOLD, 10, "10 nodes is the maximum"),
        (group(99.0, desired=1), Action.OUT, 2, "1 node wished for, but the minimum is 2"),
        (group(1.0, desired=12), Action.IN, 10, "12 nodes wished for, but the maximum is 10"),
        (group(None, memory=None), Action.HOLD, 3, "no node has told its load"),
        (group(50.0, nodes=0, desired=2), Action.HOLD, 2, "no node has told its load"),
        (group(95.0, 4, booting=1), Action.OUT, 6, "average CPU 95 % is above 70 %"),
        (
            group(95.0, 2, booting=1),
            Action.HOLD,
            3,
            "1 node is booting: counted as idle, the average is CPU 63.3 %, memory 33.3 %",
        ),
        (group(5.0, memory=5.0, draining=1), Action.HOLD, 3, "1 node is still draining"),
        (group(99.0, 9, unknown=1), Action.HOLD, 9, "1 node of unknown state may run"),
        (group(99.0, 9, unknown=1, desired=10), Action.HOLD, 10, "10 nodes is the maximum"),
        (group(99.0, 8, unknown=1), Action.OUT, 9, "average CPU 99 %"),
    ],
)
def test_one_decision(observation, action, count, said):
    verdict = once(observation, SCALING)
    assert (verdict.action, verdict.count) == (action, count)
    assert any(said in sentence for sentence in verdict.reasons + verdict.vetoes)


def test_every_small_state():
    """Against the rule written a second time, as a table of what each condition allows."""
    levels = (0.0, 15.0, 30.0, 45.0, 70.0, 85.0, 100.0)
    changes = (None, 975.0, 960.0, 930.0)  # before now = 1000; the cooldowns are 30 and 60 s
    for nodes, booting, cpu, memory, changed in itertools.product(
        range(2, 11), range(3), levels, (10.0, 60.0, 90.0), changes
    ):
        if nodes + booting > 10:
            continue
        history = History(last_out_at=changed)
        observation = group(cpu, nodes, memory=memory, booting=booting)
        verdict = decide(1000.0, history, observation, SCALING)
        share = nodes / (nodes + booting)
        since = 1000.0 - changed if changed else 1000.0
        out = cpu * share > 70.0 or memory * share > 80.0
        fewer = cpu < 30.0 and memory < 40.0
        expected = 0
        if out and since >= 30.0 and nodes + booting < 10:
            expected = 1
        elif fewer and since >= 60.0 and nodes + booting > 2:
            expected = -1
        assert verdict.count - observation.desired == expected, (observation, changed, verdict)


@pytest.mark.parametrize("nodes", range(2, 40))
@pytest.mark.parametrize(("high", "low"), [(70.0, 30.0), (80.0, 30.0)])
def test_a_load_that_stays_the_same_never_makes_it_flap(nodes, high, low):
    """Out and in again, or in and out again, would be two opposite decisions on one load."""
    scaling = Scaling(
        min=2,
        max=99,
        out_above={"cpu_percent": high},
        in_below={"cpu_percent": low},
        cooldown_out_s=0,
        cooldown_in_s=0,
    )
    for percent in range(1, 101):
        first = once(group(float(percent), nodes), scaling)
        after = percent * nodes / first.count
        second = once(group(min(100.0, after), first.count), scaling)
        assert {first.action, second.action} != {Action.OUT, Action.IN}


def test_periods_must_agree_in_a_row():
    course = Course(Scaling(evaluation_periods=3, cooldown_out_s=0))
    assert course.step(group(90.0)).vetoes == (
        "only 1 of the 3 evaluations in a row that must agree",
    )
    assert course.step(group(50.0)).action is Action.HOLD
    actions = [course.step(group(90.0)).action for _ in range(3)]
    assert actions == [Action.HOLD, Action.HOLD, Action.OUT]


def test_a_gap_between_evaluations_breaks_the_row():
    course = Course(Scaling(evaluation_periods=2, cooldown_out_s=0))
    course.step(group(90.0))
    course.now += 20.0
    assert course.step(group(90.0)).action is Action.HOLD
    assert course.step(group(90.0)).action is Action.OUT


def test_a_period_with_a_missing_node_does_not_count_for_shrinking():
    course = Course(Scaling(evaluation_periods=2))
    silent = group(5.0, memory=5.0)
    silent = type(silent)((*silent.samples[:2], group(None, memory=None).samples[2]), 3)
    course.step(silent)
    assert course.step(group(5.0, memory=5.0)).action is Action.HOLD
    assert course.step(group(5.0, memory=5.0)).action is Action.IN


def test_cooldowns_follow_any_change_and_say_how_long():
    course = Course(Scaling(max=10))
    assert course.step(group(90.0)).action is Action.OUT
    again = course.step(group(90.0, 4))
    assert again.vetoes == ("the cooldown after the last change lasts 20 s more",)
    assert again.inputs["cooldown_remaining_s"] == 20.0
    course.step(group(5.0, 4, memory=5.0))
    assert course.step(group(90.0, 4)).action is Action.OUT
    inwards = [course.step(group(5.0, 5, memory=5.0)).action for _ in range(6)]
    assert inwards == [Action.HOLD] * 5 + [Action.IN]
    assert "lasts 20 s more" in course.step(group(90.0, 4)).vetoes[0]


def test_a_change_by_hand_starts_the_cooldown_too():
    course = Course(Scaling())
    course.step(group(50.0))
    assert course.step(group(90.0, 2)).vetoes == (
        "the cooldown after the last change lasts 30 s more",
    )


def test_memory_that_a_new_node_did_not_lower_asks_for_no_further_node():
    course = Course(Scaling(cooldown_out_s=0))
    assert course.step(group(20.0, 2, memory=85.0)).action is Action.OUT
    assert course.step(group(20.0, 2, memory=85.0, booting=1)).action is Action.HOLD
    stuck = course.step(group(20.0, 3, memory=84.9))
    assert stuck.action is Action.HOLD
    assert stuck.vetoes == (
        "growing from 2 to 3 nodes did not lower memory (85 % before, 84.9 % now): "
        "one more would not either",
    )
    assert course.step(group(90.0, 3, memory=85.0)).action is Action.OUT, "CPU still may"


def test_memory_that_a_new_node_lowered_may_ask_for_another():
    course = Course(Scaling(cooldown_out_s=0))
    course.step(group(20.0, 2, memory=95.0))
    assert course.step(group(20.0, 3, memory=82.0)).action is Action.OUT


def test_relief_is_forgotten_when_memory_was_fine_in_between():
    course = Course(Scaling(cooldown_out_s=0))
    course.step(group(20.0, 2, memory=85.0))
    course.step(group(40.0, 3, memory=70.0))
    assert course.step(group(40.0, 3, memory=86.0)).action is Action.OUT


def test_memory_policy_looks_at_memory_alone():
    limits = {"cpu_percent": 1.0, "memory_percent": 80.0}
    scaling = Scaling(policy="memory", out_above=limits, in_below={"memory_percent": 30.0})
    assert once(group(99.0, memory=50.0), scaling).action is Action.HOLD
    assert once(group(1.0, memory=81.0), scaling).action is Action.OUT
    assert once(group(99.0, memory=29.0), scaling).action is Action.IN


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (Scaling(out_above={"disk": 1.0}), "scaling.out: no agent reports 'disk'"),
        (Scaling(in_below={"cpu_percent": 70.0}), "fewer nodes below 70 and for more above 70"),
        (Scaling(options={"x": 1}), "policy 'threshold' has none"),
        (Scaling(policy="memory", out_above={}), "'memory' needs memory_percent"),
        (Scaling(policy="manual", options={"x": 1}), "policy 'manual' has none"),
        (Scaling(policy="magic"), "there is no policy 'magic'"),
    ],
)
def test_settings_that_cannot_be_followed(scaling, message):
    with pytest.raises(UsageProblem, match=message):
        check(scaling)
