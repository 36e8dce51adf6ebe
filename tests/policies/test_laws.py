"""What holds for every policy, whatever it is shown."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_node.policies import (
    POLICIES,
    Action,
    History,
    NodeSample,
    Observation,
    check,
    decide,
    remember,
)
from control_node.policies.decision import MOST_POINTS
from labcore import codec
from labcore.wire.lab import Scaling
from tests.policies.builders import Course, group

TIMETABLE: dict[str, object] = {"rows": [{"from": "08:00", "to": "12:00", "count": 7}]}
OPTIONS: dict[str, dict[str, object]] = {name: {} for name in POLICIES} | {"schedule": TIMETABLE}

thrifty = settings(max_examples=50)
names = st.sampled_from(sorted(POLICIES))
percents = st.floats(0.0, 100.0)
loads = st.floats(0.1, 100.0)  # exactly 0 is suspect after a busy time, see test_guards
samples = st.builds(
    NodeSample,
    st.sampled_from([f"agent-{n}" for n in range(1, 11)]),
    st.none() | percents,
    st.none() | percents,
    st.none() | st.integers(0, 50),
)
observations = st.builds(
    Observation,
    st.lists(samples, max_size=10).map(tuple),
    st.integers(0, 14),
    booting=st.integers(0, 4),
    draining=st.integers(0, 1),
    unknown=st.integers(0, 2),
    at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


def scaling(name: str) -> Scaling:
    return Scaling(policy=name, min=2, max=10, options=OPTIONS[name])


def told(seen: list[Observation], rules: Scaling) -> tuple[float, History]:
    now, history = 1000.0, History()
    for observation in seen:
        verdict = decide(now, history, observation, rules)
        history = remember(now, history, observation, verdict, rules)
        now += rules.interval_s
    return now, history


@thrifty
@given(names, st.lists(observations, max_size=8), observations)
def test_in_bounds_with_reasons_and_in_step(name, before, observation):
    rules = scaling(name)
    now, history = told(before, rules)
    verdict = decide(now, history, observation, rules)
    assert rules.min <= verdict.count <= rules.max
    assert verdict.reasons
    assert all(verdict.reasons + verdict.vetoes), "no empty sentence"
    difference = verdict.count - observation.desired
    expected = Action.HOLD
    if difference:
        expected = Action.OUT if difference > 0 else Action.IN
    assert verdict.action is expected
    if verdict.vetoes:
        assert verdict.action is Action.HOLD


@thrifty
@given(names, st.lists(observations, max_size=8), observations)
def test_never_shrinks_on_missing_metrics(name, before, observation):
    rules = scaling(name)
    now, history = told(before, rules)
    missing = any(s.cpu_percent is None or s.memory_percent is None for s in observation.samples)
    is_small = len(observation.samples) < 10  # in larger ones silence counts as work: test_guards
    if observation.desired <= rules.max and (missing or not observation.samples) and is_small:
        verdict = decide(now, history, observation, rules)
        assert verdict.action is not Action.IN


@thrifty
@given(st.lists(observations, max_size=8), observations)
def test_manual_changes_nothing_within_limits(before, observation):
    rules = scaling("manual")
    now, history = told(before, rules)
    if rules.min <= observation.desired <= rules.max:
        assert decide(now, history, observation, rules).action is Action.HOLD


@thrifty
@given(names, st.lists(observations, max_size=8), observations)
def test_pure_and_survives_being_saved(name, before, observation):
    rules = scaling(name)
    now, history = told(before, rules)
    first = decide(now, history, observation, rules)
    saved = codec.decode(History, json.loads(json.dumps(codec.encode(history))))
    assert saved == history
    assert decide(now, saved, observation, rules) == first


@thrifty
@given(
    st.sampled_from(["threshold", "target", "predictive"]),
    st.lists(loads, max_size=15),
    loads,
    loads,
    st.integers(2, 10),
)
def test_more_load_never_asks_for_fewer_nodes(name, before, one, other, nodes):
    rules = scaling(name)
    now, history = told([group(cpu, nodes, memory=30.0) for cpu in before], rules)
    low, high = sorted((one, other))
    fewer = decide(now, history, group(low, nodes, memory=30.0), rules)
    more = decide(now, history, group(high, nodes, memory=30.0), rules)
    assert fewer.count <= more.count
    assert (fewer.wish or 0) <= (more.wish or 0)


@thrifty
@given(
    st.sampled_from(["threshold", "memory", "target", "predictive"]),
    st.floats(0.05, 12.0),
    st.integers(2, 10),
)
def test_constant_load_ends_in_silence(name, work, nodes):
    """A bounded number of changes, and then none; never outwards again after one inwards.

    Where all CPU was used, `predictive` may have grown too far and give some of it back.
    """
    course = Course(scaling(name))
    actions = []
    for _ in range(250):
        cpu = min(100.0, 100.0 * work / nodes)
        verdict = course.step(group(cpu, nodes, memory=20.0 + 0.7 * cpu))
        actions.append(verdict.action)
        nodes = verdict.count
    moves = [action for action in actions if action is not Action.HOLD]
    assert moves == sorted(moves, key=[Action.OUT, Action.IN].index)
    assert name == "predictive" or len(set(moves)) <= 1
    assert set(actions[-50:]) == {Action.HOLD}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_history_does_not_grow_for_ever(name):
    rules = dataclasses.replace(scaling(name), interval_s=1.0)
    course = Course(rules)
    sizes = []
    for _ in range(MOST_POINTS + 300):
        course.step(group(50.0))
        sizes.append(len(course.history.points) + len(course.history.wishes))
    assert sizes[-1] == sizes[-200] <= 2 * MOST_POINTS


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_history_of_another_clock_is_dropped(name):
    course = Course(scaling(name), now=50_000.0)
    for _ in range(5):
        course.step(group(90.0))
    course.now = 10.0
    course.step(group(90.0))
    assert [point.at for point in course.history.points] == [10.0]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_defaults_are_fine(name):
    check(scaling(name))


def test_time_of_day_is_aware():
    """What `schedule` needs is what the scaler's clock gives."""
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    observation = dataclasses.replace(group(50.0), at=at)
    assert decide(0.0, History(), observation, scaling("schedule")).count == 7
