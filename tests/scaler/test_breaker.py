"""Boots that fail again and again, told as stories on a virtual clock."""

import pytest

from control_node.scaler.breaker import FAILURES, Breaker
from control_node.scaler.status import group_status
from control_node.scaler.types import Power
from labcore.wire.event import EventKind
from labcore.wire.lab import Scaling
from tests.scaler.world import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, scaling=Scaling(max=4), quiet_s=2.0)
    world.run_until(lambda: len(world.serving) == 2)
    world.refuses = lambda operation: (
        "no memory left" if isinstance(operation, Power) and operation.to == "on" else None
    )
    return world


def tries(world):
    return len(world.operations(Power))


def status(world):
    scene = world.controller.scene
    return group_status(world.controller, scene, scene.roster("agent")).breaker


def test_it_opens_after_five_failures_for_five_minutes_then_tries_one(world):
    world.desired = 4
    world.run(60)
    begun = tries(world)
    assert FAILURES <= begun <= FAILURES + 1  # two were under way when the fifth failed
    world.run(200)
    assert tries(world) == begun
    told = [e for e in world.events if e.data.get("code") == "boots-fail"]
    assert [e.kind for e in told] == [EventKind.PROBLEM]
    assert "boots in a row failed, the last because of: no memory left" in told[0].message
    assert "labctl autoscale reset" in str(told[0].data["hint"])
    world.run(60)
    assert tries(world) == begun + 1


def test_each_pause_is_twice_as_long_up_to_half_an_hour(world):
    world.desired = 3
    world.run_until(lambda: status(world) is not None)
    pauses = []
    for _ in range(5):
        pauses.append(round(status(world).remaining_s / 60))
        before = tries(world)
        world.run_until(lambda before=before: tries(world) > before, limit_s=3600)
        world.run(5)
    assert pauses == [5, 10, 20, 30, 30]


def test_one_that_gets_healthy_closes_it_and_all_are_made(world):
    world.desired = 4
    world.run(60)
    world.refuses = lambda operation: None
    world.run(240)
    assert len(world.serving) == 2
    world.run_until(lambda: len(world.serving) == 4, limit_s=30)
    assert status(world) is None


def test_a_person_resets_it(world):
    world.desired = 3
    world.run(60)
    assert status(world).problem == "no memory left"
    world.refuses = lambda operation: None
    world.controller.reset_breaker("agent")
    world.run_until(lambda: len(world.serving) == 3, limit_s=5)
    assert status(world) is None


def test_what_was_healthy_before_is_healed_all_the_same(world):
    world.desired = 3
    world.run(60)
    world.refuses = lambda operation: None
    world.kill("agent-1")
    world.run_until(lambda: len(world.serving) == 2, limit_s=10)
    assert status(world) is not None


def test_one_that_dies_before_it_is_healthy_has_failed_to_boot(world):
    world.refuses = lambda operation: None
    world.boot_s = 1000.0
    world.desired = 3
    for _ in range(FAILURES):
        world.run_until(lambda: "agent-3" in world.running)
        world.run(1)
        world.kill("agent-3")
        world.run(1)
    assert status(world).problem == "agent-3 stopped before it was healthy"


def test_it_is_remembered_over_a_restart(world):
    world.desired = 3
    world.run(60)
    begun = tries(world)
    world.start()
    world.run(100)
    assert status(world).failures == FAILURES
    assert tries(world) == begun


def test_a_refusal_is_no_failed_boot(world):
    world.refuses = lambda operation: None
    world.is_away = True
    world.desired = 3
    world.run(60)
    assert status(world) is None


def test_the_policy_asks_for_no_more_and_says_why(tmp_path):
    world = World(tmp_path, mode="auto", scaling=Scaling(max=9, cooldown_out_s=0.0))
    world.run_until(lambda: len(world.serving) == 2)
    world.refuses = lambda operation: (
        "no memory left" if isinstance(operation, Power) and operation.to == "on" else None
    )
    for agent in world.agents.values():
        agent.cpu = 95.0
    world.run(60)
    vetoes = world.controller.decisions[-1].vetoes
    assert any("boots in a row failed" in veto for veto in vetoes), vetoes


def test_after_a_reboot_of_the_machine_one_is_tried():
    assert Breaker(5, 2, 900.0, "x").rebooted().remaining_s(10.0) == 0.0
