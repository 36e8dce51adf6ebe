"""Standby nodes: booted, paused, resumed; and a crash of the scaler anywhere in between."""

import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from control_node.scaler.status import scaler_status
from control_node.scaler.types import Power
from labcore.wire.lab import PowerState, Scaling, Wanted
from tests.scaler.world import World

ONE = Scaling(standby=1)


def powers(world):
    return [(p.node, p.to) for p in world.operations(Power)]


def settle(world, count, *ready, limit_s=90.0):
    """Until so many serve, exactly these stand by, and nothing else runs."""
    return world.run_until(
        lambda: (
            len(world.serving) == count == len(world.running)
            and world.ready == list(ready) == sorted(a.name for a in world.standbys)
            and world.controller.state.removal is None
        ),
        limit_s,
    )


def phases(world):
    status = scaler_status("demo", world.clock.now(), world.controller)
    return {n.node: n.phase for n in status.nodes}


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, scaling=ONE, boot_s=5.0)
    settle(made, 2, "agent-3")
    return made


def test_it_is_booted_seen_healthy_and_paused_and_is_no_capacity(world):
    assert powers(world) == [("agent-3", "standby"), ("agent-3", "pause")]
    assert world.changes("agent-3") == ["standby"]
    assert phases(world) == {"agent-1": "serving", "agent-2": "serving", "agent-3": "standby"}
    status = scaler_status("demo", world.clock.now(), world.controller)
    assert (status.groups[0].serving, status.groups[0].desired_count) == (2, 2)
    before = len(powers(world))
    world.run(120)
    assert len(powers(world)) == before


def test_it_is_not_paused_before_it_is_healthy_and_never_routed(tmp_path):
    world = World(tmp_path, scaling=ONE, boot_s=3.0)
    world.run_until(lambda: bool(world.standbys), 20)
    world.agents["agent-3"].health = "bad"
    world.run(30)
    assert world.agents["agent-3"].state is PowerState.RUNNING
    assert phases(world)["agent-3"] == "booting"
    world.agents["agent-3"].health = "ok"
    settle(world, 2, "agent-3")


def test_scaling_out_resumes_it_first_and_then_boots_the_next(world):
    world.desired = 3
    seconds = world.run_until(lambda: "agent-3" in world.serving, 10)
    assert seconds < 2.0  # where a boot takes 5 s
    assert world.changes("agent-3")[-1] == "joined"
    settle(world, 3, "agent-4")
    assert powers(world)[2:] == [("agent-3", "on"), ("agent-4", "standby"), ("agent-4", "pause")]


def test_beyond_the_standby_nodes_new_ones_are_booted(world):
    world.desired = 5
    world.run_until(lambda: "agent-3" in world.serving, 10)
    settle(world, 5, "agent-6")
    assert world.serving == [f"agent-{n}" for n in range(1, 6)]


def test_one_that_is_still_booting_joins_when_it_is_needed(tmp_path):
    world = World(tmp_path, scaling=ONE, boot_s=20.0)
    world.run_until(lambda: world.agents["agent-1"].booted <= world.clock.monotonic(), 30)
    world.run_until(lambda: bool(world.standbys), 20)
    world.run(10)
    world.desired = 3
    seconds = world.run_until(lambda: len(world.serving) == 3, 40)
    assert seconds < 15
    assert world.serving == ["agent-1", "agent-2", "agent-3"]


def test_nothing_is_booted_for_standby_while_the_group_grows(tmp_path):
    world = World(tmp_path, scaling=Scaling(standby=2), boot_s=3.0)
    world.desired = 4
    world.run_until(lambda: len(world.serving) == 4, 60)
    assert [to for _, to in powers(world)][:2] == ["on", "on"]
    assert world.ready == []
    settle(world, 4, "agent-5", "agent-6")
    told = [to for _, to in powers(world)][2:]
    assert told == ["standby", "pause", "standby", "pause"]  # one at a time


def test_a_full_group_has_standby_nodes_beyond_its_maximum(tmp_path):
    world = World(tmp_path, scaling=Scaling(min=2, max=3, standby=2))
    world.desired = 3
    settle(world, 3, "agent-4", "agent-5")


def test_a_dead_one_is_booted_again(world):
    world.kill("agent-3")
    world.run_until(lambda: world.ready == [], 5)
    settle(world, 2, "agent-3")


def test_a_lost_one_is_replaced_under_a_new_name(world):
    world.agents["agent-3"].state = PowerState.LOST
    settle(world, 2, "agent-4")
    assert world.agents["agent-3"].wanted is Wanted.OFF


def test_one_that_never_gets_healthy_is_given_up(tmp_path):
    world = World(tmp_path, scaling=ONE)
    world.run_until(lambda: bool(world.standbys), 20)
    world.agents["agent-3"].health = "bad"
    world.run_until(lambda: ("agent-3", "off") in powers(world), 200)
    settle(world, 2, "agent-3")  # its number is free again


def test_one_that_cannot_be_resumed_does_not_keep_the_group_small(world):
    def refuses(operation):
        is_it = isinstance(operation, Power) and (operation.node, operation.to) == ("agent-3", "on")
        return "planned" if is_it else None

    world.refuses = refuses
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3, 20)
    assert world.serving == ["agent-1", "agent-2", "agent-4"]


@pytest.mark.parametrize(
    ("before", "after", "ready"),
    [(1, 3, ["agent-3", "agent-4", "agent-5"]), (3, 1, ["agent-3"]), (2, 0, [])],
)
def test_the_lab_file_may_change_how_many(tmp_path, before, after, ready):
    world = World(tmp_path, scaling=Scaling(standby=before))
    settle(world, 2, *(f"agent-{n}" for n in range(3, 3 + before)))
    world.scaling = Scaling(standby=after)
    world.check = lambda: None  # type: ignore[method-assign]  # too many, until they are off
    settle(world, 2, *ready)


def test_a_removed_node_becomes_the_standby_that_is_missing(tmp_path):
    world = World(tmp_path, boot_s=30.0)
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3, 60)
    world.scaling, world.desired = ONE, 2
    settle(world, 2, "agent-3", limit_s=10)
    assert powers(world)[-2:] == [("agent-3", "standby"), ("agent-3", "pause")]
    assert not world.agents["agent-3"].draining
    assert world.changes("agent-3")[-4:] == ["drain", "drained", "removed", "standby"]
    assert world.reached_when_off == []


@pytest.mark.parametrize("why", ["enough", "busy", "sick", "destroy", "person"])
def test_a_removed_node_is_turned_off_where_it_is_of_no_use(tmp_path, why):
    world = World(tmp_path, scaling=ONE if why == "enough" else Scaling(), boot_s=15.0)
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3, 60)
    if why == "enough":
        settle(world, 3, "agent-4")
    removal: Literal["destroy", "power_off"] = "destroy" if why == "destroy" else "power_off"
    world.scaling = Scaling(standby=1, removal=removal, drain_s=5)
    agent = world.agents["agent-3"]
    agent.in_flight = 1 if why == "busy" else 0
    agent.wanted = Wanted.OFF if why == "person" else agent.wanted
    world.desired = 2
    if why == "sick":
        world.run_until(lambda: world.controller.state.removal is not None, 10)
        agent.health = "refused"
    world.run_until(lambda: ("agent-3", "off") in powers(world), 30)
    assert ("agent-3", "standby") not in powers(world)


def test_the_scaler_waits_for_the_server_manager(world):
    world.is_away = True
    world.kill("agent-3")
    world.run(10)
    before = len(powers(world))
    world.run(20)
    assert len(powers(world)) == before
    world.is_away = False
    settle(world, 2, "agent-3")


def out(world):
    world.desired = 3
    settle(world, 3, "agent-4")


def back(world):
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3, 30)
    world.desired = 2
    world.run_until(lambda: len(world.serving) == 2 and world.controller.state.removal is None, 60)
    world.run_until(lambda: len(world.ready) == 1 == len(world.standbys), 90)


@pytest.mark.parametrize("story", [out, back])
def test_a_crash_anywhere_changes_nothing_in_the_end(tmp_path, story):
    def tell(name, crash_at):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, scaling=ONE)
        world.crash_at = crash_at
        settle(world, 2, "agent-3")
        story(world)
        world.run(3)
        return world

    smooth = tell("smooth", None)
    assert smooth.crossed > 20
    for place in range(1, smooth.crossed + 1):
        world = tell(f"crash-{place}", place)
        assert world.serving == smooth.serving, place
        assert world.running == smooth.running, place
        assert len(world.ready) == len(world.standbys) == 1, place
        assert world.reached_when_off == [], place
        assert not any(a.draining for a in world.agents.values() if a.wanted is not Wanted.OFF)


names = st.sampled_from([f"agent-{n}" for n in range(1, 7)])
faults = st.one_of(
    st.tuples(st.just("desired"), st.integers(2, 4)),
    st.tuples(st.just("kill"), names),
    st.tuples(st.just("crash"), st.integers(1, 8)),
    st.tuples(st.just("away"), st.booleans()),
)


@given(st.lists(st.tuples(faults, st.floats(0.1, 6.0)), max_size=6))
@example([(("desired", 4), 3.0), (("desired", 2), 1.0), (("kill", "agent-3"), 1.0)])
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_laws_hold_and_all_is_well_again_when_the_faults_end(story):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), scaling=Scaling(max=4, standby=2), tick_s=0.2)
        for (kind, what), seconds in story:
            if kind == "desired":
                world.desired = what
            elif kind == "kill" and what in world.agents:
                world.kill(what)
            elif kind == "crash":
                world.crash_at = world.crossed + what
            elif kind == "away":
                world.is_away = what
            world.run(seconds)  # checks the laws
        world.is_away, world.crash_at = False, None
        world.run_until(
            lambda: (
                len(world.serving) == world.desired == len(world.running)
                and len(world.ready) == 2 == len(world.standbys)
                and world.controller.state.removal is None
                # One too many that was killed is turned off for good once it is lost.
                and sum(a.wanted is Wanted.ON for a in world.agents.values()) == world.desired
            ),
            200,
        )
        before = len(powers(world))
        world.run(30)
        assert len(powers(world)) == before


def test_one_that_a_person_turns_on_while_it_is_paused_joins_after_that(tmp_path):
    world = World(tmp_path, scaling=ONE, power_s=2.0)
    world.run_until(lambda: ("agent-3", "pause") in powers(world), 30)
    world.agents["agent-3"].wanted = Wanted.ON
    world.desired = 3
    for _ in range(15):
        world.run(0.1)
        assert "agent-3" not in world.routed  # it may freeze at any moment
