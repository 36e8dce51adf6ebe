"""The heart of the scaler: `step(now, view)` says what to do. No I/O, no clock, no waiting.

Level-triggered: each step derives everything from what is seen, from the saved `State` (cooldowns
and the removal in progress) and from the ledger of what is under way. Whoever drives it must
write `state` to disk, if it changed, *before* the returned operations are carried out.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque

from control_node.balancer.model import Backends, Routing
from control_node.scaler import removal, rotation, standby
from control_node.scaler.announcer import Announcer
from control_node.scaler.breaker import Breaker
from control_node.scaler.evaluation import Evaluator
from control_node.scaler.healing import Healer
from control_node.scaler.ledger import Ledger
from control_node.scaler.pace import Pace
from control_node.scaler.removal import DEFAULT_DRAIN_S
from control_node.scaler.roster import (
    UP,
    Out,
    Rotating,
    make_roster,
    managed_groups,
    with_known_addresses,
)
from control_node.scaler.rotation import Rotation
from control_node.scaler.scene import Scene
from control_node.scaler.state import State
from control_node.scaler.types import Policy, Power, SetCount, Step, Submit, View
from labcore.errors import LabError
from labcore.wire.lab import Lab
from labcore.wire.scaler import Decision

KEPT_DECISIONS = 200
# So long before a decision its nodes are asked: what was asked then is fresh enough.
FRESH_S = 0.15
# While nginx reloads, old and new workers answer side by side, so that nothing is known of it. For
# so long it is taken to serve as before; only a power-off needs to know better.
MIXED_S = 5.0
# nginx cuts what old workers still have so long after a removal has stopped waiting for them: until
# then the agent can say how many requests that is.
CUT_AFTER_S = 2.0


class Controller:
    """One lab's scaler. Not thread-safe: one caller steps it."""

    def __init__(self, policy: Policy, own_group: str, state: State) -> None:
        self.state = state
        self.decisions: deque[Decision] = deque(maxlen=KEPT_DECISIONS)
        self.scene: Scene | None = None  # of the last step
        self.rotations: dict[str, Rotation] = {}
        self._own_group = own_group
        self._ledger = Ledger()
        self._evaluator = Evaluator(policy)
        self._healer = Healer()
        self._announcer = Announcer()
        self._pace = Pace()
        self._wanted: Routing | None = None
        self._sent: Routing | None = None
        self._loaded: Backends = {}
        self._loaded_at = 0.0
        for memory in state.groups.values():
            if memory.last_decision is not None:
                self.decisions.append(memory.last_decision)

    def step(self, now: float, view: View) -> list[Step]:
        """What to do now. Call it at any time and as often as wanted."""
        self._ledger.take_in(view, now)
        lab = view.lab or self.state.lab
        if lab is None:
            return []
        lab = with_known_addresses(lab, self.state.lab)
        if lab != self.state.lab:
            self.state = dataclasses.replace(self.state, lab=lab)
        if view.balancer.backends is not None:
            self._loaded, self._loaded_at = view.balancer.backends, now
        elif now - self._loaded_at > MIXED_S:
            self._loaded = {}
        scene = self._look(now, view, lab)
        steps: list[Step] = [*self._failures(scene), *self._watch_boots(scene)]
        steps += self._remove(scene)
        scene = self._look(now, view, lab)  # the removal may have begun or ended just now
        steps += self._route(scene)
        scene = self._look(now, view, lab)
        steps += self._announcer.announce(scene, self.rotations)
        steps += self._evaluate(scene)
        scene = self._look(now, view, lab)  # with the count that was just decided
        steps += self._heal(scene)
        self.scene = scene
        return steps

    @property
    def busy(self) -> bool:
        """Whether something is in progress, so that the next look should come soon."""
        if self.scene is None or self.state.removal is not None or self._ledger.busy:
            return True
        return not self._is_routed(self.scene) or bool(self.urgent)

    @property
    def urgent(self) -> frozenset[str]:
        """The nodes whose next answer something waits for: ask them often."""
        if self.scene is None:
            return frozenset()
        booting = {
            name
            for roster in self.scene.rosters
            for name in (*(s.name for s in roster.active), *roster.coming)
            if name not in roster.serving and self._announcer.is_new(name, self.scene.now)
        }
        leaving = {self.state.removal.node} if self.state.removal else set()
        return frozenset(booting | leaving)

    def due_in_s(self, group: str) -> float:
        """Until a group is evaluated next, seen from the last step."""
        roster = self.scene.roster(group) if self.scene else None
        if self.scene is None or roster is None or roster.group.scaling is None:
            return math.inf
        evaluated = self.state.of_group(group).evaluated
        last = -math.inf if evaluated is None else evaluated
        return max(0.0, last + roster.group.scaling.interval_s - self.scene.now)

    @property
    def deciding(self) -> frozenset[str]:
        """The nodes that are about to be decided about: their metrics should be of now."""
        rosters = self.scene.rosters if self.scene else ()
        return frozenset().union(
            *(r.panel for r in rosters if self.due_in_s(r.group.name) <= FRESH_S)
        )

    @property
    def rest_s(self) -> float:
        """For so long after the last step there is nothing to decide, nor to ask for that."""
        rosters = self.scene.rosters if self.scene else ()
        dues = [due for r in rosters if (due := self.due_in_s(r.group.name)) > 0.0]
        return min((due - FRESH_S if due > FRESH_S else due for due in dues), default=math.inf)

    def _look(self, now: float, view: View, lab: Lab) -> Scene:
        leaving = self.state.removal.node if self.state.removal else None
        out = Out(leaving, self._healer.given_up)
        seen = Rotating(self._loaded, view.probes)
        rosters = tuple(
            make_roster(lab, group, self._ledger, out, seen)
            for group in managed_groups(lab, self._own_group)
        )
        routed = self._wanted.backends.values() if self._wanted else ()
        nodes = frozenset(b.node for members in routed for b in members)
        return Scene(now, view, lab, rosters, self._ledger, nodes, self._loaded)

    def reset_breaker(self, group: str) -> None:
        """Make nodes of that group again at once, as a person wants who has mended what broke."""
        memory = self.state.of_group(group)
        self.state = self.state.with_group(group, dataclasses.replace(memory, breaker=Breaker()))
        self._ledger.reset(group)

    def _watch_boots(self, scene: Scene) -> list[Step]:
        steps: list[Step] = []
        for roster in scene.rosters:
            name, memory = roster.group.name, self.state.of_group(roster.group.name)
            boots = self._ledger.boots(name)
            boots.breaker = memory.breaker
            breaker = boots.look(scene.view, scene.now, roster.servers, self._healer.given_up)
            if breaker.pauses > memory.breaker.pauses:
                steps.append(_breaks(scene, name, breaker))
            if breaker != memory.breaker:
                memory = dataclasses.replace(memory, breaker=breaker)
                self.state = self.state.with_group(name, memory)
        return steps

    def _failures(self, scene: Scene) -> list[Step]:
        for done in scene.view.done:
            if isinstance(done.operation, SetCount) and done.problem is not None:
                self.state = self._evaluator.undo(self.state, done.operation.group)
        return self._announcer.failures(scene)

    def _remove(self, scene: Scene) -> list[Step]:
        before = self.state.removal
        outcome = removal.advance(scene, before) if before else removal.begin(scene)
        if outcome.removal != before:
            self.state = dataclasses.replace(self.state, removal=outcome.removal)
        return [*outcome.steps, *removal.undrain(scene, outcome.removal)]

    def _route(self, scene: Scene) -> list[Step]:
        ours = tuple(b for b in scene.lab.balancers if b.group == self._own_group)
        if not ours or not (self.rotations or _may_begin(scene)):
            return []
        before = self.rotations or _adopted(scene)
        self.rotations = {
            r.group.name: rotation.rotate(
                r.servers,
                scene.view.probes,
                before.get(r.group.name, Rotation()),
                self._going(r.group.name),
            )
            for r in scene.rosters
        }
        backends = {
            r.group.name: rotation.backends(r.servers, self.rotations[r.group.name])
            for r in scene.rosters
        }
        drains = [r.group.scaling.drain_s for r in scene.rosters if r.group.scaling]
        drain_s = max(drains, default=DEFAULT_DRAIN_S) + CUT_AFTER_S
        self._wanted = Routing(ours, backends, drain_s)
        return self._submit(scene, self._wanted)

    def _going(self, group: str) -> frozenset[str]:
        powers = self._ledger.powers(group)
        offs = frozenset(p.node for p in powers if p.to in ("off", "pause"))
        gone = self.state.removal
        return offs | {gone.node} if gone and gone.step != "told" else offs

    def _submit(self, scene: Scene, routing: Routing) -> list[Step]:
        submit = Submit(routing)
        if self._ledger.routing:
            return []  # one at a time; the next step sees to it
        if routing != self._sent:
            self._ledger.forgive(submit)
        elif self._is_routed(scene):
            return []
        if not self._ledger.may(submit, scene.now) or not self._pace.may(scene.now):
            return []  # what changes meanwhile goes with it
        self._pace.take(scene.now)
        self._sent = routing
        return [self._ledger.begin(submit)]

    def _is_routed(self, scene: Scene) -> bool:
        """Whether nginx is seen to follow the routing that we want."""
        if self._wanted is None or self._ledger.routing:
            return self._wanted is None
        seen = scene.view.balancer
        return seen.confirmed and _pairs(seen.backends) == _pairs(self._wanted.backends)

    def _evaluate(self, scene: Scene) -> list[Step]:
        steps: list[Step] = []
        for roster in scene.rosters:
            name = roster.group.name
            try:
                evaluation = self._evaluator.evaluate(scene, roster, self.state)
            except LabError as error:
                told = scene.problem("policy-unusable", None, error.message, error.hint)
                steps += self._announcer.once(scene, ("policy", name), told)
                continue
            if evaluation is not None:
                self.state = evaluation.state
                self.decisions.append(evaluation.decision)
                steps += evaluation.steps
        return steps

    def _heal(self, scene: Scene) -> list[Step]:
        steps = [*self._healer.steps(scene), *standby.steps(scene)]
        for step in steps:
            if isinstance(step, Power) and step.to == "on":
                self._announcer.begins(step.node, scene.now)
        return steps


def _breaks(scene: Scene, group: str, breaker: Breaker) -> Step:
    message = f"{group}: {breaker.sentence(scene.now)}"
    hint = f"mend it, then labctl autoscale reset --lab {scene.lab.lab}"
    return scene.problem("boots-fail", None, message, hint)


def _may_begin(scene: Scene) -> bool:
    """Whether enough is known for a first routing: what nginx has now, or every node's health."""
    if scene.view.balancer.backends is not None:
        return True
    asked = {name for name, p in scene.view.probes.items() if p.health != "unknown"}
    servers = (s for r in scene.rosters for s in r.servers if s.state in UP)
    return all(s.name in asked for s in servers if rotation.address_of(s, rotation.APP))


def _adopted(scene: Scene) -> dict[str, Rotation]:
    loaded = scene.view.balancer.backends or {}
    return {
        group: Rotation(frozenset(b.node for b in members)) for group, members in loaded.items()
    }


def _pairs(backends: Backends | None) -> frozenset[tuple[str, str, str]] | None:
    if backends is None:
        return None
    return frozenset((g, b.node, b.address) for g, members in backends.items() for b in members)
