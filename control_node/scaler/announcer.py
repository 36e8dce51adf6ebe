"""What happened, told once: nodes that serve, nodes that left, operations that failed."""

from __future__ import annotations

from collections.abc import Mapping

from control_node.scaler.ledger import Key, key_of
from control_node.scaler.roster import Roster
from control_node.scaler.rotation import Rotation
from control_node.scaler.scene import Scene
from control_node.scaler.types import Done, Power, Publish, SetCount, Step, Submit
from labcore.wire.event import EventKind
from labcore.wire.lab import PowerState, Wanted

# After this a node that does not serve yet is not waited for eagerly any more.
NEW_FOR_S = 120.0
_DOING = {
    "on": "turning on",
    "off": "turning off",
    "standby": "booting the standby node",
    "pause": "pausing the standby node",
}


class Announcer:
    """Compares each step with the one before. Begins empty: what serves at a start is announced
    again, so that whoever waits for a `serving` gate cannot miss it through a crash of ours.
    """

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._announced: set[str] = set()
        self._ready: set[str] = set()
        self._fell_out: set[str] = set()
        self._problems: dict[Key, str] = {}

    def begins(self, node: str, now: float) -> None:
        """A node is being powered on: its way to serving is counted from here."""
        self._begun[node] = now

    def is_new(self, node: str, now: float) -> bool:
        """Whether a node that does not serve began to not long ago."""
        return now - self._begun.get(node, now) < NEW_FOR_S

    def announce(self, scene: Scene, rotations: Mapping[str, Rotation]) -> list[Step]:
        """`joined` or `healed` with the gate `serving`, once nginx has the node; `left`; `standby`
        once a standby node is paused."""
        loaded = scene.loaded_nodes
        steps: list[Step] = []
        for roster in scene.rosters:
            rotation = rotations.get(roster.group.name, Rotation())
            steps += self._stand_by(scene, roster)
            for server in roster.servers:
                name = server.name
                if server.wanted is Wanted.ON:
                    self._begun.setdefault(name, scene.now)
                is_in = name in rotation.members
                if is_in and name in loaded and name not in self._announced:
                    steps += self._joined(scene, name)
                elif not is_in and name in self._announced:
                    steps += self._left(scene, name, is_removed=name == roster.leaving)
        return steps

    def _stand_by(self, scene: Scene, roster: Roster) -> list[Step]:
        ready = {s.name for s in roster.standbys if s.state is PowerState.PAUSED}
        new = ready - self._ready
        self._ready = (self._ready - {s.name for s in roster.servers}) | ready
        return [scene.membership("standby", n, f"{n} stands by, paused") for n in sorted(new)]

    def _joined(self, scene: Scene, node: str) -> list[Publish]:
        self._announced.add(node)
        change = "healed" if node in self._fell_out else "joined"
        self._fell_out.discard(node)
        seconds = round(scene.now - self._begun.get(node, scene.now), 3)
        gate = {"gate": "serving", "seconds": seconds}
        return [
            scene.membership(change, node, f"{node} serves"),
            scene.publish(EventKind.GATE, f"{node}: serving after {seconds:.1f} s", node, gate),
        ]

    def _left(self, scene: Scene, node: str, *, is_removed: bool) -> list[Publish]:
        self._announced.discard(node)
        self._begun[node] = scene.now
        if is_removed:
            return []  # its removal tells of itself
        self._fell_out.add(node)
        return [scene.membership("left", node, f"{node} is out of rotation: {_why(scene, node)}")]

    def failures(self, scene: Scene) -> list[Step]:
        """A `problem` for each operation that failed, and not again while it fails the same way."""
        steps: list[Step] = []
        for done in scene.view.done:
            key = key_of(done.operation)
            if done.problem is None:
                self._problems.pop(key, None)
            else:
                steps += self.once(scene, key, _failure(scene, done))
        return steps

    def once(self, scene: Scene, key: Key, problem: Publish | None) -> list[Publish]:
        """`problem`, unless it is what was told of `key` last."""
        if problem is None or self._problems.get(key) == problem.event.message:
            return []
        self._problems[key] = problem.event.message
        return [problem]


def _failure(scene: Scene, done: Done) -> Publish | None:
    operation = done.operation
    if isinstance(operation, Power):
        message = f"{_DOING[operation.to]} {operation.node} failed: {done.problem}"
        return scene.problem("power-failed", operation.node, message, "it is tried again")
    if isinstance(operation, Submit):
        message = f"the load balancer did not take a new configuration: {done.problem}"
        return scene.problem("balancer-failed", None, message, "it is tried again")
    if isinstance(operation, SetCount):
        message = f"{operation.count} nodes of {operation.group} could not be wished for"
        return scene.problem("count-refused", None, f"{message}: {done.problem}")
    return None  # an agent that was not told to drain is drained by nginx alone


def _why(scene: Scene, node: str) -> str:
    found = scene.find(node)
    probe = scene.probe(node)
    if found is not None and found[1].state.value not in ("running", "starting", "unknown"):
        return f"its server is {found[1].state.value}"
    if probe is not None and probe.health not in ("ok", "unknown"):
        return probe.reason or probe.health
    return "it is not wanted"
