"""A bug planted against each invariant is caught: what nothing can break proves nothing."""

import dataclasses

import pytest

from control_node import policies
from control_node.policies.types import Action
from control_node.scaler import healing, removal, roster, rotation
from control_node.scaler.removal import Outcome
from control_node.scaler.scene import Scene
from labcore.wire.event import EventKind
from labcore.wire.lab import Wanted
from server_manager.manager import Manager
from server_manager.operations import Operations
from server_manager.power import Power
from server_manager.room import Room, Seen
from tests.simulation.faults import certain
from tests.simulation.world import simulate


def is_caught(sentence, *seeds):
    """Whether one of these seeds says that this invariant is broken.

    When they were chosen all of them did: one is enough, so that a change elsewhere may spoil some.
    """
    return any(simulate(seed).broken.startswith(sentence) for seed in seeds)


def meeting(fires):
    """The first seeds that meet this fault for certain."""
    return [seed for seed in range(1, 1000) if certain(seed).fires == fires][:5]


@pytest.fixture
def plant(monkeypatch):
    """Put something wrong in the place of something right; it is given what was there."""

    def planted(owner, name, make):
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return planted


def test_a_restarted_scaler_that_forgets_what_serves(plant):
    def forgetful(right):
        return lambda probe, was_in: probe is not None and right(probe, False)

    plant(rotation, "_belongs", forgetful)
    assert is_caught("never below min", 64, 67, 70, 174, 176, 185)


def test_a_removal_that_counts_one_too_many(plant):
    def off_by_one(right):
        def surplus(scene, roster):
            is_one_too_many = len(roster.serving) > roster.minimum - 1
            return (roster.active[-1], "planted") if is_one_too_many and roster.active else None

        return surplus

    plant(removal, "_surplus", off_by_one)
    plant(removal, "_is_needed", lambda right: lambda scene, roster, server: False)
    assert is_caught("never below min", 3, 4, 5, 6, 7, 8)


def test_a_group_that_is_given_one_too_many(plant):
    def off_by_one(right):
        return lambda scene, roster: right(
            scene,
            dataclasses.replace(roster, desired=roster.desired + 1, maximum=roster.maximum + 1),
        )

    plant(healing, "_missing", off_by_one)
    plant(Room, "is_left", lambda right: lambda *_, **__: True)
    plant(Room, "may_boot", lambda right: lambda *_: True)
    plant(Power, "_most", lambda right: lambda self, lab, group: right(self, lab, group) + 1)
    assert is_caught("never above max", 1, 2, 3, 4)


def test_a_removal_that_confirms_nothing(plant):
    plant(removal, "_is_true", lambda right: lambda *_: True)
    plant(Scene, "is_unreachable_by_nginx", lambda right: lambda self, node: True)
    assert is_caught("no power-off of a loaded backend", 6, 14, 17, 21, 26, 27)


def test_a_power_off_that_goes_by_name(plant):
    def by_name(right):
        def power_off(self, lab, server, *, force=False):
            for other in self._core.servers.of():
                if other.name == server.name:
                    right(self, lab, other, force=force)

        return power_off

    plant(Operations, "power_off", by_name)
    assert is_caught("nothing foreign is touched", 1, 5, 6, 9, 10)


def test_a_destroy_that_takes_all_of_that_lab(plant):
    """The lab's name is not enough: somebody else's server may bear it."""

    def greedy(right):
        def destroy(self, lab, server):
            driver = self._core.driver(lab)
            for told in driver.servers(lab.name):
                driver.destroy(told.ref)
            right(self, lab, server)

        return destroy

    plant(Operations, "destroy", greedy)
    assert is_caught("nothing foreign is touched", 1, 2, 4, 5)


def test_a_maximum_to_which_what_drains_does_not_count(plant):
    plant(roster, "_occupies", lambda right: lambda server: server.wanted is Wanted.ON)
    plant(Room, "look", lambda right: lambda self, lab: Seen(right(self, lab).lost, frozenset()))
    plant(Operations, "may_boot", lambda right: lambda self, server: False)
    assert is_caught("never above max", 11, 20, 21)


def test_a_substitute_that_does_not_count(plant):
    plant(Room, "may_boot", lambda right: lambda *_: True)
    assert is_caught("never above max", 2151, 3200)


def test_a_removal_that_is_forgotten_while_it_goes_on(plant):
    def others(right):
        def begin(scene):
            said = {
                n
                for n, p in scene.view.probes.items()
                if p.metrics and p.metrics.status != "active"
            }
            rosters = tuple(
                dataclasses.replace(r, active=tuple(s for s in r.active if s.name not in said))
                for r in scene.rosters
            )
            return right(dataclasses.replace(scene, rosters=rosters))

        return begin

    def forgets(right):
        def advance(scene, going):
            outcome = right(scene, going)
            if outcome.removal is not None and outcome.removal.step != "told":
                return Outcome(None)
            return outcome

        return advance

    def greedy(right):
        return lambda scene, roster: right(
            scene, dataclasses.replace(roster, desired=roster.desired - 1)
        )

    plant(removal, "_surplus", greedy)
    plant(removal, "begin", others)
    plant(removal, "advance", forgets)
    plant(removal, "undrain", lambda right: lambda *_: ())
    assert is_caught("at most one removal", 1, 2, 3, 4)


def test_a_start_that_does_not_finish_what_was_begun(plant):
    plant(Manager, "_finish", lambda right: lambda *_: None)
    assert is_caught("journal replay is legal", 4, 7, 12, 16, 18, 27)


def test_a_start_that_does_everything_again(plant):
    def restarts(right):
        def recover(self):
            right(self)
            for lab in self.core.labs.all():
                for server in self.core.servers.of(lab.name):
                    if lab.name == "demo" and server.wanted is Wanted.OFF:
                        self.core.driver(lab).stop(server.ref)

        return recover

    plant(Manager, "recover", restarts)
    assert is_caught("journal replay is idempotent", 2, 6, 7, 13, 16)


def test_a_policy_that_cannot_leave_it_alone(plant):
    def restless(right):
        def decide(now, history, observation, scaling):
            verdict = right(now, history, observation, scaling)
            count = scaling.max if observation.desired < scaling.max else scaling.min
            action = Action.OUT if count > observation.desired else Action.IN
            return dataclasses.replace(verdict, action=action, count=count)

        return decide

    plant(policies, "decide", restless)
    assert is_caught("constant load ends in silence", 1, 3, 5, 6, 7)


def test_a_plan_that_writes(plant):
    def writes(right):
        def plan(self, name, data=None):
            self.core.events.publish(name, EventKind.LAB, "planned")
            return right(self, name, data)

        return plan

    plant(Manager, "plan", writes)
    assert is_caught("dry-run changes nothing", *meeting("person_plans"))
