"""How much load the demo sends, and what it calls its lab."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labcore.errors import UsageProblem
from labcore.wire.lab import Group, Scaling
from labctl import blueprints
from labctl.demo.settings import SETTINGS, Script, choose_level, free_name
from server_manager import labfile


def group(count: int, cpus: float, threshold: float | None) -> Group:
    out = {} if threshold is None else {"cpu_percent": threshold}
    scaling = Scaling(out_above=out)
    return Group("agent", "agent", "local", count, "auto", ("app",), cpus, 512, scaling)


@given(st.integers(1, 20), st.floats(0.05, 4), st.floats(10, 99))
@example(2, 0.05, 98.0)  # 4.93 ms of work for a request
def test_the_load_crosses_the_threshold(count: int, cpus: float, threshold: float):
    level = choose_level(group(count, cpus, threshold))
    percent = 100 * level.rps * level.ms / 1000 / (count * cpus)
    assert threshold < percent <= 104
    assert level.rps >= 10


def test_two_agents_are_too_few_for_it_and_three_enough():
    level = choose_level(group(2, 0.25, 70))
    assert (level.rps, level.ms, level.percent) == (20, 20, 80)
    assert level.percent * 1.2 * 2 / 3 < 70  # with what requests cost besides
    assert level.rps * level.ms / 1000 < 0.5  # of one core of the host


def test_the_load_rises_again_if_nobody_comes_and_outlasts_the_wait():
    script = Script()
    schedule = choose_level(group(2, 0.25, 70)).schedule(script)
    assert schedule.rate(20) == 20
    assert schedule.rate(script.out_limit_s) == 40
    assert schedule.seconds > script.out_limit_s + script.settle_s


@pytest.mark.parametrize("threshold", [None, 100.0])
def test_a_group_that_does_not_grow_by_cpu(threshold: float | None):
    with pytest.raises(UsageProblem, match="needs a CPU threshold"):
        choose_level(group(2, 0.25, threshold))


def test_the_name_is_demo_unless_that_is_taken():
    assert free_name({"other"}) == "demo"
    assert free_name({"demo", "demo-2"}) == "demo-3"


def test_the_settings_fit_the_blueprint():
    lab = labfile.parse(blueprints.text("autoscale"), "x", SETTINGS)
    assert lab.scaling is not None
    assert lab.scaling.interval_s == 2
    assert lab.scaling.mode == "auto"
