"""What the scaler does, told as stories on a virtual clock."""

import dataclasses

import pytest

from control_node.scaler.types import Power, SetCount, Submit
from labcore.wire.event import EventKind
from labcore.wire.lab import Desired, LabState, PowerState, Scaling, Wanted
from labcore.wire.scaler import Action
from tests.scaler.world import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def settle(world, count, limit_s=60.0):
    return world.run_until(
        lambda: (
            len(world.serving) == count == len(world.running)
            and world.controller.state.removal is None
        ),
        limit_s,
    )


def test_what_runs_is_adopted_and_served(world):
    settle(world, 2)
    assert world.operations(Power) == []
    gates = [e for e in world.events if e.kind is EventKind.GATE]
    assert sorted(e.node or "" for e in gates) == ["agent-1", "agent-2"]
    assert all(e.data["gate"] == "serving" for e in gates)


def test_nothing_more_is_done_once_it_stands(world):
    settle(world, 2)
    world.run(2)
    before = len(world.steps)
    world.run(300)
    done = world.steps[before:]
    assert [s for s in done if isinstance(s, Power | Submit | SetCount)] == []


def test_more_are_powered_on_lowest_free_number_first(world):
    settle(world, 2)
    world.desired = 4
    seconds = settle(world, 4)
    assert [(p.node, p.to) for p in world.operations(Power)] == [
        ("agent-3", "on"),
        ("agent-4", "on"),
    ]
    assert seconds < 2.0


def test_fewer_means_the_highest_number_leaves_without_a_lost_request(world):
    world.desired = 4
    settle(world, 4)
    world.desired = 3
    settle(world, 3)
    assert world.serving == ["agent-1", "agent-2", "agent-3"]
    assert world.changes("agent-4")[-3:] == ["drain", "drained", "removed"]
    assert world.agents["agent-4"].wanted is Wanted.OFF
    assert world.reached_when_off == []


def test_a_freed_number_is_used_again(world):
    world.desired = 3
    settle(world, 3)
    world.desired = 2
    settle(world, 2)
    world.desired = 3
    settle(world, 3)
    assert world.running == ["agent-1", "agent-2", "agent-3"]
    assert world.changes("agent-3")[-1] == "joined"


def test_nothing_is_done_twice_because_the_view_is_old(tmp_path):
    world = World(tmp_path, lab_every_s=5.0)
    settle(world, 2)
    world.desired = 3
    settle(world, 3)
    world.run(10)
    world.desired = 2
    settle(world, 2)
    world.run(10)
    assert [(p.node, p.to) for p in world.operations(Power)] == [
        ("agent-3", "on"),
        ("agent-3", "off"),
    ]


def test_nobody_leaves_while_too_few_others_serve(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-1"].health = "bad"
    world.run(3)
    assert world.controller.rotations["agent"].ejected == {"agent-1"}
    world.desired = 2
    world.run(30)
    assert world.controller.state.removal is None
    world.agents["agent-1"].health = "ok"
    settle(world, 2)
    assert world.serving == ["agent-1", "agent-2"]


def test_a_removal_is_cancelled_when_another_falls_ill(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 1
    world.desired = 2
    world.run(2)
    world.agents["agent-1"].health = "refused"
    world.run_until(lambda: world.serving == ["agent-2", "agent-3"], 5)
    world.agents["agent-1"].health = "ok"
    world.agents["agent-3"].in_flight = 0
    settle(world, 2)
    assert world.serving == ["agent-1", "agent-2"]


def test_a_busy_agent_is_waited_for_and_the_cap_ends_the_wait(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 1
    world.desired = 2
    world.run(20)
    assert "agent-3" in world.running
    assert "agent-3" not in world.serving
    settle(world, 2, limit_s=15)


def test_stuck_old_workers_are_waited_for_up_to_the_cap(world):
    world.desired = 3
    settle(world, 3)
    world.balancer.faults.stuck_workers = 1
    world.desired = 2
    world.run(25)
    assert "agent-3" in world.running
    settle(world, 2, limit_s=15)
    assert world.reached_when_off == ["agent-3"]  # that is what a cap is


def test_the_tenth_removal_of_a_node_takes_no_longer_than_the_first(world):
    took = []
    for _ in range(10):
        world.desired = 3
        settle(world, 3)
        world.desired = 2
        took.append(settle(world, 2))
    assert max(took) < 3.0


@pytest.mark.parametrize("after_s", [0.2, 0.5, 1.0])
def test_a_removal_is_cancelled_when_the_node_is_needed_again(world, after_s):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 1
    world.desired = 2
    world.run(after_s)
    assert world.controller.state.removal is not None
    world.desired = 3
    settle(world, 3)
    assert world.operations(Power)[-1] == Power("agent-3", "agent", "on")
    world.run_until(lambda: not world.agents["agent-3"].draining, 5)


def test_one_that_is_turned_off_and_on_again_at_once_is_not_replaced(world):
    """`labctl start` comes as soon as the server is off, before the scaler hears that it is."""
    world.desired = 3
    settle(world, 3)
    agent = world.agents["agent-3"]
    agent.wanted, world.desired = Wanted.OFF, 2  # labctl stop

    def start_at_once(operation):
        if operation == Power("agent-3", "agent", "off"):
            agent.booted, agent.wanted, world.desired = world.clock.monotonic(), Wanted.ON, 3
            agent.draining = False
            return "done, but told as failed"
        return None

    world.refuses = start_at_once
    world.run(20)
    assert world.serving == ["agent-1", "agent-2", "agent-3"]
    assert "agent-4" not in world.agents


@pytest.mark.parametrize("restarts", [False, True])
def test_a_removal_is_not_cancelled_while_its_power_off_may_yet_come(world, restarts):
    """The server-manager died of it, and ends what it had begun when it is back."""
    world.desired = 3
    world.run_until(lambda: len(world.serving) == 3)

    def dies(operation):
        if not isinstance(operation, Power):
            return None
        world.is_away = True
        return "connection reset"

    world.refuses = dies
    world.desired = 2
    world.run_until(lambda: world.is_away)
    world.kill("agent-2")
    if restarts:
        world.start()
    world.run(5)
    assert world.serving == ["agent-1"]
    agent = world.agents["agent-3"]
    agent.wanted, agent.state = Wanted.OFF, PowerState.STOPPED
    world.is_away, world.refuses = False, lambda operation: None
    world.run_until(lambda: world.serving == ["agent-1", "agent-2"])
    assert agent.state is PowerState.STOPPED


def test_one_that_a_person_turned_off_is_drained_and_powered_off(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-1"].wanted = Wanted.OFF
    world.desired = 2
    settle(world, 2)
    assert world.running == ["agent-2", "agent-3"]
    assert world.changes("agent-1")[-1] == "removed"


def test_a_killed_agent_leaves_at_once_and_is_healed(world):
    settle(world, 2)
    world.kill("agent-2")
    world.run(0.4)
    assert world.serving == ["agent-1"]
    settle(world, 2)
    assert world.changes("agent-2")[-2:] == ["left", "healed"]


def test_one_that_dies_again_and_again_is_started_ever_more_seldom(world):
    settle(world, 2)
    for _ in range(600):
        world.kill("agent-2")
        world.run(0.1)
    assert 4 <= len(world.operations(Power)) <= 8


def test_late_answers_put_out_after_three_but_never_more_than_half(tmp_path):
    world = World(tmp_path, initial=5)
    world.desired = 5
    settle(world, 5)
    for agent in world.agents.values():
        agent.health = "timeout"
    world.run(0.2)
    assert len(world.routed) == 5
    world.run(5)
    assert len(world.routed) == 3
    for agent in world.agents.values():
        agent.health = "ok"
    settle(world, 5)
    assert world.operations(Power) == []


def test_refused_connections_put_out_all(world):
    settle(world, 2)
    for agent in world.agents.values():
        agent.health = "refused"
    world.run_until(lambda: world.routed == [], 2)


def test_a_lost_node_is_replaced_under_a_new_number_and_stopped(world):
    settle(world, 2)
    world.agents["agent-1"].state = PowerState.LOST
    world.run_until(lambda: world.serving == ["agent-2", "agent-3"], 10)
    world.run_until(lambda: world.agents["agent-1"].wanted is Wanted.OFF, 10)
    assert "lost" in world.changes("agent-1")


def test_none_is_chosen_to_leave_that_would_be_called_back_at_once(tmp_path):
    world = World(tmp_path, initial=3)
    world.balancer.faults.refuse_tests = 5  # all are healthy, and none is routed to yet
    world.desired = 2
    world.run_until(lambda: len(world.serving) >= 2)
    settle(world, 2)
    # Once before it is healthy, when it is no loss, and once at the end.
    assert world.changes("agent-3").count("drain") <= 2


def test_a_lost_node_that_comes_back_while_it_is_turned_off_is_not_routed_to(world):
    settle(world, 2)
    world.power_s = 3.0
    world.agents["agent-1"].state = PowerState.LOST
    world.run_until(lambda: ("agent-1", "off") in powers(world), 10)
    world.agents["agent-1"].state = PowerState.RUNNING
    while world.agents["agent-1"].wanted is Wanted.ON:
        world.run(0.1)
        assert "agent-1" not in world.routed
    world.run(2)
    assert "agent-1" not in world.routed


def test_an_unknown_one_counts_creates_nothing_and_deletes_nothing(world):
    world.desired = 4
    settle(world, 4)
    before = len(world.operations(Power))
    agent = world.agents["agent-2"]
    agent.state, agent.health = PowerState.UNKNOWN, "refused"
    world.run(30)
    world.desired = 3
    world.run(30)
    assert len(world.operations(Power)) == before
    assert world.controller.state.removal is None


def test_a_driver_that_cannot_answer_takes_no_node_out_of_rotation(world):
    settle(world, 2)
    for agent in world.agents.values():
        agent.state = PowerState.UNKNOWN  # told without any address
    submitted = len(world.operations(Submit))
    world.run(10)
    world.start()  # a new scaler knows the addresses from the saved lab
    world.run(10)
    assert world.serving == ["agent-1", "agent-2"]
    assert len(world.operations(Submit)) <= submitted + 1


def test_one_that_becomes_unknown_while_it_drains_is_not_powered_off_until_known(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 1
    world.desired = 2
    world.run(2)
    world.agents["agent-3"].state = PowerState.UNKNOWN
    world.agents["agent-3"].in_flight = 0
    world.run(60)
    assert powers(world) == [("agent-3", "on")]
    world.agents["agent-3"].state = PowerState.RUNNING
    settle(world, 2)
    assert powers(world)[1:] == [("agent-3", "off")]


def test_a_paused_one_is_replaced_within_the_maximum_and_left_alone(world):
    settle(world, 2)
    world.agents["agent-1"].state = PowerState.PAUSED
    world.run_until(lambda: world.serving == ["agent-2", "agent-3"], 10)
    world.run(30)
    assert all(p.node != "agent-1" for p in world.operations(Power))
    world.agents["agent-1"].state = PowerState.RUNNING
    settle(world, 2)
    assert world.serving == ["agent-1", "agent-2"]


def powers(world):
    return [(p.node, p.to) for p in world.operations(Power)]


def test_one_that_never_gets_healthy_is_replaced_then_turned_off(world):
    world.tick_s = 0.5
    settle(world, 2)
    world.agents["agent-2"].health = "bad"
    world.run(118)
    assert powers(world) == []
    settle(world, 2, limit_s=15)
    assert powers(world) == [("agent-3", "on"), ("agent-2", "off")]
    problems = [e for e in world.events if e.kind is EventKind.PROBLEM]
    assert [e.data["code"] for e in problems] == ["never-healthy"]


def test_where_machines_boot_slowly_one_is_given_more_time(world):
    world.tick_s, world.boot_limit_s = 0.5, 400.0
    settle(world, 2)
    world.agents["agent-2"].health = "bad"
    world.run(398)
    assert powers(world) == []
    settle(world, 2, limit_s=15)
    assert powers(world) == [("agent-3", "on"), ("agent-2", "off")]


def test_without_room_for_another_it_is_turned_off_and_on(tmp_path):
    world = World(tmp_path, scaling=Scaling(max=3))
    world.tick_s = 0.5
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].health = "bad"
    world.run(118)
    settle(world, 3, limit_s=15)
    assert powers(world) == [("agent-3", "on"), ("agent-3", "off"), ("agent-3", "on")]


def test_one_given_up_that_gets_healthy_after_all_stays(tmp_path):
    world = World(tmp_path, scaling=Scaling(min=2, max=2))
    world.tick_s = 0.5
    settle(world, 2)
    world.agents["agent-2"].health = "bad"
    world.run(200)
    assert world.serving == ["agent-1"]
    assert powers(world) == []  # nobody may go below the minimum
    world.agents["agent-2"].health = "ok"
    settle(world, 2)


def test_while_the_server_manager_is_away_it_routes_and_does_nothing_else(world):
    settle(world, 2)
    world.is_away = True
    world.kill("agent-1")
    world.desired = 4
    world.run(30)
    assert world.serving == ["agent-2"]
    assert world.operations(Power) == []
    world.is_away = False
    settle(world, 4)


def test_a_restarted_scaler_routes_by_the_last_known_lab(world):
    settle(world, 2)
    world.is_away = True
    world.start()
    world.agents["agent-1"].health = "refused"
    world.run_until(lambda: world.serving == ["agent-2"] or len(world.serving) == 2, 1)
    world.run(3)
    backends = world.balancer.poll().backends or {}
    assert [b.node for b in backends["agent"]] == ["agent-2"]


@pytest.mark.parametrize("desired", [Desired.DOWN, Desired.DESTROYED])
def test_a_lab_that_shall_not_be_up_is_left_alone(world, desired):
    settle(world, 2)
    world.lab_desired = desired
    world.desired = 4
    world.kill("agent-1")
    world.run(30)
    assert world.operations(Power) == []


def test_a_converging_lab_is_healed_by_the_server_manager(world):
    settle(world, 2)
    world.lab_state = LabState.CONVERGING
    world.kill("agent-1")
    world.run(10)
    assert world.operations(Power) == []


def test_a_broken_configuration_is_offered_again(world):
    settle(world, 2)
    world.balancer.faults.refuse_tests = 2
    world.desired = 3
    settle(world, 3)
    codes = [e.data["code"] for e in world.events if e.kind is EventKind.PROBLEM]
    assert codes == ["balancer-failed"]


def test_a_reload_that_nginx_ignores_powers_nothing_off(world):
    world.desired = 3
    settle(world, 3)
    world.balancer.faults.ignore_reloads = 3
    world.desired = 2
    settle(world, 2)


def test_power_failures_are_told_once_and_tried_ever_more_seldom(world):
    settle(world, 2)
    world.refuses = lambda op: "no room on disk" if isinstance(op, Power) else None
    world.desired = 3
    world.run(60)
    assert 4 <= len(world.operations(Power)) <= 8
    problems = [e for e in world.events if e.kind is EventKind.PROBLEM]
    assert [e.data["code"] for e in problems] == ["power-failed", "boots-fail"]
    assert "no room on disk" in problems[0].message


# ---------------------------------------------------------------------- mode auto


def auto(tmp_path, **scaling):
    return World(tmp_path, mode="auto", scaling=Scaling(**scaling))


def load(world, cpu, memory=50.0):
    for agent in world.agents.values():
        agent.cpu, agent.memory = cpu, memory


def test_high_cpu_goes_out_by_one_up_to_the_maximum(tmp_path):
    world = auto(tmp_path, cooldown_out_s=10)
    settle(world, 2)
    load(world, 90)
    world.run_until(lambda: world.desired == 3, 15)
    for _ in range(10):
        load(world, 90)
        world.run(10)
    assert len(world.serving) == 5
    outs = [d for d in world.controller.decisions if d.action is Action.OUT]
    assert [d.count for d in outs] == [3, 4, 5]
    assert len(outs[0].samples) == 2


def test_low_use_goes_in_down_to_the_minimum(tmp_path):
    world = auto(tmp_path, cooldown_in_s=20)
    world.desired = 4
    settle(world, 4)
    load(world, 5, 20)
    settle(world, 2, limit_s=120)
    world.run(60)
    assert world.serving == ["agent-1", "agent-2"]


@pytest.mark.parametrize("fault", ["missing", "frozen"])
def test_missing_or_stale_metrics_never_shrink(tmp_path, fault):
    world = auto(tmp_path, cooldown_in_s=0)
    world.desired = 3
    settle(world, 3)
    agent = world.agents["agent-2"]
    agent.is_frozen, agent.has_metrics = fault == "frozen", fault != "missing"
    world.run(21)
    load(world, 5, 20)
    world.run(120)
    assert len(world.serving) == 3
    assert world.controller.decisions[-1].vetoes


def test_a_count_that_cannot_be_written_starts_no_cooldown(tmp_path):
    world = auto(tmp_path, cooldown_out_s=1000)
    settle(world, 2)
    world.refuses = lambda op: "not now" if isinstance(op, SetCount) else None
    load(world, 90)
    world.run(25)
    assert world.desired == 2
    world.refuses = lambda op: None
    world.run_until(lambda: world.desired == 3, 15)


def test_cooldown_survives_a_restart(tmp_path):
    world = auto(tmp_path, cooldown_out_s=100)
    settle(world, 2)
    load(world, 90)
    world.run_until(lambda: world.desired == 3, 15)
    world.start()
    load(world, 90)
    world.run(60)
    assert world.desired == 3
    seqs = [d.seq for d in world.controller.decisions]
    assert seqs == sorted(set(seqs))


def test_manual_mode_says_what_the_policy_would_do(world):
    settle(world, 2)
    load(world, 90)
    world.run(15)
    decision = world.controller.decisions[-1]
    assert decision.action is Action.HOLD
    assert "would go out to 3" in decision.reasons[0]
    assert world.desired == 2


def test_equal_holds_are_told_once_a_minute(tmp_path):
    world = auto(tmp_path)
    settle(world, 2)
    world.run(180)
    told = [e for e in world.events if e.kind is EventKind.DECISION]
    assert 3 <= len(told) <= 6
    assert len(world.controller.decisions) >= 18


def test_an_unusable_policy_is_told_once_and_breaks_nothing(tmp_path):
    world = auto(tmp_path, policy="no-such")
    settle(world, 2)
    world.run(60)
    codes = [e.data["code"] for e in world.events if e.kind is EventKind.PROBLEM]
    assert codes == ["policy-unusable"]


def test_the_whole_state_survives_the_file(tmp_path):
    world = auto(tmp_path)
    settle(world, 2)
    load(world, 90)
    world.run(30)
    state = world.store.load(world.clock.monotonic())
    saved = dataclasses.replace(world.controller.state, saved=state.saved)
    assert state == saved


def test_many_that_come_up_at_once_cost_one_reload(world):
    settle(world, 2)
    before = len(world.operations(Submit))
    world.desired = 5
    settle(world, 5)
    assert len(world.operations(Submit)) == before + 1


def test_one_after_the_other_is_served_without_a_wait(world):
    settle(world, 2)
    for count in (3, 4):
        world.desired = count
        assert settle(world, count) < 2.0


def test_flapping_health_reloads_once_a_second_at_most(world):
    world.desired = 3
    settle(world, 3)
    world.run(5)
    before, began = len(world.operations(Submit)), world.clock.monotonic()
    for _ in range(200):
        world.agents["agent-2"].health = "refused"
        world.run(0.1)
        world.agents["agent-2"].health = "ok"
        world.run(0.1)
    reloads = len(world.operations(Submit)) - before
    assert 20 < reloads <= world.clock.monotonic() - began + 3
    settle(world, 3)


def test_a_large_group_is_sized_by_a_sample(tmp_path):
    scaling = Scaling(min=2, max=200, interval_s=10)
    world = World(tmp_path, initial=150, scaling=scaling, mode="auto")
    for agent in world.agents.values():
        agent.cpu = 90.0
    world.run_until(lambda: bool(world.operations(SetCount)), 30)
    decision = world.controller.decisions[-1]
    assert (decision.current, decision.count, len(decision.samples)) == (150, 151, 15)
    assert (decision.inputs["serving"], decision.inputs["others"]) == (150, 135)


def test_what_the_cap_cuts_is_told_with_its_number(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 4
    world.desired = 2
    settle(world, 2)
    drained = next(e for e in world.events if e.data.get("change") == "drained")
    message = "agent-3 is drained: 4 requests that are still open after 30 s are cut"
    assert (drained.message, drained.data["cut"]) == (message, 4)


def test_nothing_is_said_to_be_cut_where_all_came_to_its_end(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = 4
    world.desired = 2
    world.run(20)
    world.agents["agent-3"].in_flight = 0
    settle(world, 2)
    drained = next(e for e in world.events if e.data.get("change") == "drained")
    assert (drained.message, "cut" in drained.data) == ("agent-3 is drained", False)


def test_of_an_agent_that_cannot_count_the_cut_is_told_without_a_number(world):
    world.desired = 3
    settle(world, 3)
    world.agents["agent-3"].in_flight = None
    world.balancer.faults.stuck_workers = 1
    world.desired = 2
    settle(world, 2)
    drained = next(e for e in world.events if e.data.get("change") == "drained")
    assert drained.message.endswith("connections that are still open after 30 s are cut")
