"""The runner in real time: real agents on loopback, a server-manager and a balancer in memory."""

import dataclasses

import pytest

from control_node.balancer.fake import FakeBalancer
from labcore.errors import Unreachable
from labcore.wire.event import EventKind
from labcore.wire.lab import Wanted
from tests.scaler.running import CLOCK, Manager, Scaler, until


@pytest.fixture
def manager():
    made = Manager()
    yield made
    for agent in made.agents.values():
        agent.off()


@pytest.fixture
def balancer():
    return FakeBalancer(CLOCK, linger_s=0.2)


@pytest.fixture
def scaler(manager, balancer, tmp_path):
    made = Scaler(manager, balancer, tmp_path)
    yield made
    made.stop()


def test_from_adopting_to_scaling_out_and_in(scaler, manager, tmp_path):
    until(lambda: scaler.serving() == ["agent-1", "agent-2"], "the first two to serve")
    scaler.desk.scale(3, None)
    until(lambda: scaler.serving() == ["agent-1", "agent-2", "agent-3"], "a third to serve")
    scaler.desk.scale(2, None)
    until(lambda: manager.agents["agent-3"].wanted is Wanted.OFF, "the third to go")
    assert manager.agents["agent-3"].was_drained
    until(lambda: scaler.desk.status().groups[0].removal is None, "the removal to end")
    assert scaler.serving() == ["agent-1", "agent-2"]
    until(lambda: scaler.desk.status().groups[0].last_decision is not None, "a decision")
    until(
        lambda: [e.data["change"] for e in manager.events if e.node == "agent-3"
                 and e.kind is EventKind.MEMBERSHIP]
        == ["joined", "drain", "drained", "removed"],
        "all that happened to be told in order",
    )  # fmt: skip


def test_a_standby_node_is_booted_paused_and_resumed(scaler, manager):
    manager.scaling = dataclasses.replace(manager.scaling, standby=1)
    until(lambda: "agent-3" in manager.agents and manager.agents["agent-3"].is_paused, "a standby")
    assert scaler.serving() == ["agent-1", "agent-2"]
    scaler.desk.scale(3, None)
    until(lambda: scaler.serving() == ["agent-1", "agent-2", "agent-3"], "it to serve")
    until(lambda: "agent-4" in manager.agents and manager.agents["agent-4"].is_paused, "the next")


def test_it_routes_while_the_server_manager_is_away_and_goes_on_after(scaler, manager):
    until(lambda: len(scaler.serving()) == 2, "the first two to serve")
    manager.is_away = True
    until(lambda: not scaler.desk.status().manager_reachable, "the silence to be noticed")
    with pytest.raises(Unreachable):
        scaler.desk.scale(3, None)
    manager.agents["agent-2"].off()
    until(lambda: scaler.serving() == ["agent-1"], "the dead one to leave")
    assert manager.agents["agent-2"].server is None
    manager.is_away = False
    until(lambda: len(scaler.serving()) == 2, "it to be healed")


def test_a_restart_goes_on_from_the_file(manager, balancer, tmp_path):
    first = Scaler(manager, balancer, tmp_path)
    until(lambda: len(first.serving()) == 2, "the first two to serve")
    until(lambda: first.desk.status().groups[0].last_decision is not None, "a decision")
    first.stop()
    before = first.store.load(CLOCK.monotonic())
    manager.is_away = True
    again = Scaler(manager, balancer, tmp_path)
    try:
        until(lambda: len(again.serving()) == 2, "them to be routed by the last known lab")
        group = again.desk.status().groups[0]
        assert group.last_decision is not None
        assert group.last_decision.seq == before.decision_seq
    finally:
        again.stop()


def test_nothing_is_done_that_could_not_be_saved(manager, balancer, tmp_path):
    scaler = Scaler(manager, balancer, tmp_path)
    try:
        until(lambda: len(scaler.serving()) == 2, "the first two to serve")
        scaler.store.path = tmp_path / "no-such-folder" / "state.json"
        scaler.desk.scale(3, None)
        until(
            lambda: any(e.kind is EventKind.PROBLEM and "cannot be saved" in e.message
                        for e in manager.events),
            "the problem to be told",
        )  # fmt: skip
    finally:
        scaler.stop()
