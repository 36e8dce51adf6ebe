"""A bug planted against each invariant is caught: what nothing can break proves nothing."""

import dataclasses

import pytest

from control_node.policies import threshold
from control_node.scaler import healing, removal, rotation
from control_node.scaler.removal import Outcome
from control_node.scaler.scene import Scene
from labcore.wire.event import EventKind
from labcore.wire.lab import Wanted
from server_manager.manager import Manager
from server_manager.operations import Operations
from server_manager.power import Power
from tests.simulation.world import simulate

pytestmark = pytest.mark.soak

SEEDS = 80  # a planted bug must show within so many


def is_caught(sentence):
    """Whether some seed says that this invariant is broken; others may be, too."""
    return any(simulate(seed).broken.startswith(sentence) for seed in range(1, SEEDS + 1))


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
    assert is_caught("never below min")


def test_a_removal_that_counts_one_too_many(plant):
    def off_by_one(right):
        return lambda scene, roster: right(
            scene, dataclasses.replace(roster, desired=roster.minimum - 1)
        )

    plant(removal, "_surplus", off_by_one)
    plant(removal, "_leaves_enough", lambda right: lambda roster, server: True)
    plant(removal, "_is_needed", lambda right: lambda scene, roster, server: False)
    assert is_caught("never below min")


def test_a_group_that_is_given_one_too_many(plant):
    def off_by_one(right):
        return lambda scene, roster: right(
            scene,
            dataclasses.replace(roster, desired=roster.desired + 1, maximum=roster.maximum + 1),
        )

    plant(healing, "_missing", off_by_one)
    plant(Power, "_check_room", lambda right: lambda *_: None)
    plant(Power, "_most", lambda right: lambda self, lab, group: right(self, lab, group) + 1)
    assert is_caught("never above max")


def test_a_removal_that_confirms_nothing(plant):
    plant(removal, "_is_true", lambda right: lambda *_: True)
    plant(Scene, "is_unreachable_by_nginx", lambda right: lambda self, node: True)
    assert is_caught("no power-off of a loaded backend")


def test_a_power_off_that_goes_by_name(plant):
    def by_name(right):
        def power_off(self, lab, server, *, force=False):
            for other in self._core.servers.of():
                if other.name == server.name:
                    right(self, lab, other, force=force)

        return power_off

    plant(Operations, "power_off", by_name)
    assert is_caught("nothing foreign is touched")


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
    assert is_caught("at most one removal")


def test_a_start_that_does_not_finish_what_was_begun(plant):
    plant(Manager, "_finish", lambda right: lambda *_: None)
    assert is_caught("journal replay is legal")


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
    assert is_caught("journal replay is idempotent")


def test_a_policy_that_cannot_leave_it_alone(plant):
    plant(threshold, "_low", lambda right: lambda averages, scaling: True)
    assert is_caught("constant load ends in silence")


def test_a_plan_that_writes(plant):
    def writes(right):
        def plan(self, name, data=None):
            self.core.events.publish(name, EventKind.LAB, "planned")
            return right(self, name, data)

        return plan

    plant(Manager, "plan", writes)
    assert is_caught("dry-run changes nothing")
