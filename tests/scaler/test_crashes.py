"""A crash at every place where one can happen, and the laws that hold whatever happens."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_node.scaler.types import Power
from labcore.wire.lab import PowerState, Wanted
from tests.scaler.world import World


def scale_in(path, crash_at=None):
    """The story: three serve, one goes. The world, and how many places to crash it has."""
    world = World(path, initial=3)
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3)
    world.run(1)
    world.crossed, world.crash_at = 0, crash_at
    world.desired = 2
    is_over(world, 2)
    world.run(3)
    return world


def scale_out(path, crash_at=None):
    world = World(path)
    world.run_until(lambda: len(world.serving) == 2)
    world.run(1)
    world.crossed, world.crash_at = 0, crash_at
    world.desired = 4
    is_over(world, 4)
    world.run(3)
    return world


def change_of_mind(path, crash_at=None):
    """One begins to go, and is needed again before it is gone."""
    world = World(path, initial=3)
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3)
    world.agents["agent-3"].in_flight = 1
    world.run(1)
    world.crossed, world.crash_at = 0, crash_at
    world.desired = 2
    world.run(1.5)
    world.desired = 3
    is_over(world, 3)
    world.run(3)
    return world


def is_over(world, count):
    world.run_until(
        lambda: (
            len(world.serving) == count == len(world.running)
            and world.controller.state.removal is None
        ),
        limit_s=90,
    )


@pytest.mark.parametrize("story", [scale_in, scale_out, change_of_mind])
def test_a_crash_anywhere_changes_nothing_in_the_end(tmp_path, story):
    def tell(name, crash_at):
        (tmp_path / name).mkdir()
        return story(tmp_path / name, crash_at)

    smooth = tell("smooth", None)
    assert smooth.crossed > 5
    for place in range(1, smooth.crossed + 1):
        world = tell(f"crash-{place}", place)
        assert world.crossed >= place
        assert world.serving == smooth.serving, place
        assert world.running == smooth.running, place
        assert world.reached_when_off == [], place
        assert not any(a.draining for a in world.agents.values() if a.wanted is Wanted.ON), place
        downs = {p.node for p in world.operations(Power) if p.to == "off"}
        assert downs == {p.node for p in smooth.operations(Power) if p.to == "off"}, place


def test_the_removal_that_a_restart_finds_is_finished_before_another_begins(tmp_path):
    world = World(tmp_path, initial=4)
    world.desired = 4
    world.run_until(lambda: len(world.serving) == 4)
    world.agents["agent-4"].in_flight = 1
    world.desired = 2
    world.run_until(
        lambda: (r := world.controller.state.removal) is not None and r.step == "confirmed", 10
    )
    world.start()
    removal = world.controller.state.removal
    assert removal is not None
    assert (removal.node, removal.step) == ("agent-4", "confirmed")
    world.run(5)
    assert world.agents["agent-3"].wanted is Wanted.ON
    world.agents["agent-4"].in_flight = 0
    is_over(world, 2)
    assert world.reached_when_off == []


AGENTS = ("agent-1", "agent-2", "agent-3", "agent-4", "agent-5")
faults = st.one_of(
    st.tuples(st.just("desired"), st.integers(2, 5)),
    st.tuples(st.just("kill"), st.sampled_from(AGENTS)),
    st.tuples(st.just("sick"), st.sampled_from(AGENTS)),
    st.tuples(st.just("well"), st.sampled_from(AGENTS)),
    st.tuples(st.just("unknown"), st.sampled_from(AGENTS)),
    st.tuples(st.just("crash"), st.integers(1, 6)),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("no-reload"), st.integers(1, 2)),
    st.tuples(st.just("bad-config"), st.integers(1, 2)),
)
stories = st.lists(st.tuples(faults, st.floats(0.1, 6.0)), max_size=6)


def befall(world, fault):
    kind, what = fault
    agent = world.agents.get(what) if isinstance(what, str) else None
    if kind == "desired":
        world.desired = what
    elif kind == "away":
        world.is_away = what
    elif kind == "crash":
        world.crash_at = world.crossed + what
    elif kind == "no-reload":
        world.balancer.faults.ignore_reloads = what
    elif kind == "bad-config":
        world.balancer.faults.refuse_tests = what
    elif agent is not None:
        befall_agent(kind, agent)


def befall_agent(kind, agent):
    if kind == "kill" and agent.state is PowerState.RUNNING:
        agent.state = PowerState.STOPPED
    elif kind == "sick":
        agent.health = "timeout"
    elif kind == "well":
        agent.health = "ok"
        if agent.state is PowerState.UNKNOWN:
            agent.state = PowerState.RUNNING
    elif kind == "unknown" and agent.state is PowerState.RUNNING:
        agent.state = PowerState.UNKNOWN


def capacity(world):
    """What neither a fault nor a wish took away: wanted, running and healthy."""
    return sum(
        a.wanted is Wanted.ON and a.state is PowerState.RUNNING and a.health == "ok"
        for a in world.agents.values()
    )


@given(stories)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
def test_laws_hold_and_all_is_well_again_when_the_faults_end(story):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), tick_s=0.2)
        world.run_until(lambda: len(world.serving) == 2)
        for fault, seconds in story:
            befall(world, fault)
            world.run(seconds)  # checks the maximum, and that nothing named is powered off
            offs = sum(a.wanted is Wanted.OFF for a in world.agents.values())
            assert len(world.agents) - offs >= world.scaling.min
        world.is_away, world.crash_at = False, None
        world.balancer.faults.ignore_reloads = world.balancer.faults.refuse_tests = 0
        for agent in world.agents.values():
            befall_agent("well", agent)
        is_over(world, world.desired)
        before = len(world.operations(Power))
        world.run(30)  # and stays so
        assert len(world.operations(Power)) == before
        assert capacity(world) == world.desired
