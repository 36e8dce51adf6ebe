"""Taking a node out without losing a request: one at a time, step by step, each step saved first.

    told ──▶ unrouted ──▶ confirmed ──▶ drained ──▶ off
     │ the agent     │ the wanted    │ old workers    │ power off, only if the
     │ says it       │ routing is    │ are gone and   │ loaded configuration
     │ drains        │ loaded        │ the agent idle │ does not name the node; or
                                                      standby, if one is missing

`step` is the one being made true. A step ends by what is *seen*, never by what was done, so a
crash between any two lines costs a repetition at most. Until the power-off is sent, a removal is
cancelled when the node is needed again: more nodes are wished for, or too few others serve. From
then on (step `off`) it is cancelled only if a later look shows that it did not come about: a
server-manager that died of it ends it when it is back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from control_node.scaler.roster import DOWN, Roster
from control_node.scaler.rotation import METRICS, address_of
from control_node.scaler.scene import Scene
from control_node.scaler.state import RemovalMemory
from control_node.scaler.types import Power, Publish, Step, TellDrain
from labcore.wire.lab import PowerState, Server, Wanted
from labcore.wire.scaler import RemovalStep

# An agent that does not take note of the drain within this time is drained by nginx alone.
TELL_LIMIT_S = 2.0
DEFAULT_DRAIN_S = 30.0
_NEXT: dict[RemovalStep, RemovalStep] = {
    "told": "unrouted",
    "unrouted": "confirmed",
    "confirmed": "drained",
}


@dataclass(frozen=True)
class Outcome:
    """The removal as it stands after a step (None: there is none) and what to do for it."""

    removal: RemovalMemory | None
    steps: tuple[Step, ...] = ()


def begin(scene: Scene) -> Outcome:
    """Choose a node to remove, if one should go: first one that a person turned off, then the
    highest number of a group with more nodes than wished for."""
    if not scene.may_change:
        return Outcome(None)
    for roster in scene.rosters:
        chosen = _turned_off(scene, roster) or _surplus(scene, roster)
        if chosen is not None:
            server, reason = chosen
            _forgive(scene, server)
            removal = RemovalMemory(
                server.name, roster.group.name, "told", scene.at, scene.now, reason
            )
            told = scene.membership("drain", server.name, f"{server.name} drains: {reason}")
            return Outcome(removal, (told, *_tell(scene, server, draining=True)))
    return Outcome(None)


def _forgive(scene: Scene, server: Server) -> None:
    """How often it was drained and turned off before is another story: this one waits for none."""
    scene.ledger.forgive(TellDrain(server.name, "", True))
    scene.ledger.forgive(Power(server.name, server.group, "off"))
    scene.ledger.forgive(Power(server.name, server.group, "standby"))


def _turned_off(scene: Scene, roster: Roster) -> tuple[Server, str] | None:
    running = (PowerState.RUNNING, PowerState.STARTING, PowerState.PAUSED)
    for server in reversed(roster.servers):
        off = server.wanted is Wanted.OFF and server.state in running
        if off and scene.ledger.power(server.name) is None and _leaves_enough(roster, server):
            return server, "it was turned off"
    return None


def _surplus(scene: Scene, roster: Roster) -> tuple[Server, str] | None:
    if roster.count <= roster.desired or not roster.active:
        return None
    if any(s.state is PowerState.UNKNOWN for s in roster.active):
        return None  # who is there is not known: nobody is removed
    victim = roster.active[-1]
    if scene.ledger.power(victim.name) is not None or not _leaves_enough(roster, victim):
        return None
    if len(roster.serving - {victim.name}) < roster.minimum and _answers(scene, victim):
        return None  # it is about to serve, and would be needed at once
    return victim, f"{roster.count} nodes, {roster.desired} wished for"


def _leaves_enough(roster: Roster, server: Server) -> bool:
    """Whether at least `minimum` nodes serve without it; one that does not serve is no loss."""
    return server.name not in roster.serving or len(roster.serving) - 1 >= roster.minimum


def advance(scene: Scene, removal: RemovalMemory) -> Outcome:
    """Go on with a removal: at most one step, and what the step needs."""
    found = scene.find(removal.node)
    if found is None:
        return _finished(scene, removal)
    roster, server = found
    if server.state is PowerState.LOST:
        return Outcome(None)  # healing deals with lost nodes
    if _may_stay(scene, removal) and _is_needed(scene, roster, server):
        return _cancelled(scene, removal, server)
    return _onward(scene, removal, roster, server)


def _onward(scene: Scene, removal: RemovalMemory, roster: Roster, server: Server) -> Outcome:
    if removal.step in ("drained", "off"):
        return _power_off(scene, removal, roster, server)
    if not _is_true(scene, removal, roster, server):
        tell = removal.step == "told"
        return Outcome(removal, _tell(scene, server, draining=True) if tell else ())
    after = dataclasses.replace(removal, step=_NEXT[removal.step], since=scene.now)
    if after.step != "drained":
        return Outcome(after)
    drained = _drained(scene, removal, roster, server)
    outcome = _power_off(scene, after, roster, server)
    return Outcome(outcome.removal, (drained, *outcome.steps))


def _drained(scene: Scene, removal: RemovalMemory, roster: Roster, server: Server) -> Publish:
    """The event that says so, and what is cut off if the wait was ended by its cap."""
    message, cap = f"{server.name} is drained", _cap_of(roster)
    cut = _in_flight(scene, server)
    if cut is None and scene.view.balancer.old_workers:
        # The agent cannot count; old connections may be its own or those of others.
        message += f": connections that are still open after {cap:g} s are cut"
    if not cut or _is_idle(scene, removal, server):
        return scene.membership("drained", server.name, message)
    message += f": {cut} requests that are still open after {cap:g} s are cut"
    return scene.membership("drained", server.name, message, {"cut": cut})


def _may_stay(scene: Scene, removal: RemovalMemory) -> bool:
    """Whether what is seen of the node was asked for after the last power-off was sent."""
    return removal.step != "off" or scene.view.lab_asked > removal.since


def _is_needed(scene: Scene, roster: Roster, server: Server) -> bool:
    if server.wanted is not Wanted.ON or scene.ledger.power(server.name) is not None:
        return False
    return roster.count < roster.desired or (
        server.state in (PowerState.RUNNING, PowerState.UNKNOWN)
        and len(roster.staying) < roster.minimum
        and _answers(scene, server)
    )


def _cancelled(scene: Scene, removal: RemovalMemory, server: Server) -> Outcome:
    message = f"{server.name} stays after all: it is needed again"
    steps = _tell(scene, server, draining=False)
    return Outcome(None, (scene.membership("joined", server.name, message), *steps))


def _is_true(scene: Scene, removal: RemovalMemory, roster: Roster, server: Server) -> bool:
    """Whether the step that the removal is at can be seen to be done."""
    waited = scene.now - removal.since
    if removal.step == "told":
        return _says_draining(scene, server) or not _is_up(server) or waited >= TELL_LIMIT_S
    if removal.step == "unrouted":
        return scene.is_unreachable_by_nginx(server.name)
    idle = not scene.view.balancer.old_workers and _is_idle(scene, removal, server)
    return idle or waited >= _cap_of(roster)


def _cap_of(roster: Roster) -> float:
    return roster.group.scaling.drain_s if roster.group.scaling else DEFAULT_DRAIN_S


def _is_up(server: Server) -> bool:
    return server.state not in DOWN


def _answers(scene: Scene, server: Server) -> bool:
    probe = scene.probe(server.name)
    return probe is not None and probe.health == "ok"


def _says_draining(scene: Scene, server: Server) -> bool:
    probe = scene.probe(server.name)
    return probe is not None and probe.metrics is not None and probe.metrics.status == "draining"


def _is_idle(scene: Scene, removal: RemovalMemory, server: Server) -> bool:
    """Whether the agent has nothing left to do; where it cannot say, nginx's word is enough."""
    probe = scene.probe(server.name)
    if not _is_up(server) or probe is None or probe.health == "refused":
        return True
    if probe.metrics is None or probe.metrics.in_flight is None or probe.metrics_problem:
        return True
    asked = probe.metrics_asked_at
    return asked is not None and asked >= removal.since and probe.metrics.in_flight == 0


def _in_flight(scene: Scene, server: Server) -> int | None:
    """The requests it was last known to work on; None if it cannot say."""
    probe = scene.probe(server.name)
    return probe.metrics.in_flight if probe is not None and probe.metrics is not None else None


def _tell(scene: Scene, server: Server, *, draining: bool) -> tuple[Step, ...]:
    address = address_of(server, METRICS)
    if address is None or not _is_up(server):
        return ()
    tell = TellDrain(server.name, address, draining)
    return (scene.ledger.begin(tell),) if scene.ledger.may(tell, scene.now) else ()


def _power_off(scene: Scene, removal: RemovalMemory, roster: Roster, server: Server) -> Outcome:
    ledger = scene.ledger
    if ledger.power(server.name) is None and _is_over(server):
        return _finished(scene, removal, stays=server.wanted is Wanted.STANDBY)
    waits = server.state in (PowerState.UNKNOWN, PowerState.STOPPING)
    allowed = scene.may_change and scene.is_unreachable_by_nginx(server.name) and not waits
    power = Power(server.name, removal.group, "off")
    standby = Power(server.name, removal.group, "standby")
    if _is_of_use(scene, roster, server) and ledger.may(standby, scene.now):
        power = standby
    if not allowed or not ledger.may(power, scene.now):
        return Outcome(removal)
    sent = dataclasses.replace(removal, step="off", since=scene.now)
    return Outcome(sent, (ledger.begin(power),))


def _is_over(server: Server) -> bool:
    return server.wanted is Wanted.STANDBY or (server.wanted is Wanted.OFF and server.state in DOWN)


def _is_of_use(scene: Scene, roster: Roster, server: Server) -> bool:
    """Whether it can be the standby node that is missing: healthy, idle, not turned off by a
    person. Where a removed node is to be destroyed, none stays."""
    scaling = roster.group.scaling
    if scaling is None or scaling.removal == "destroy" or server.wanted is not Wanted.ON:
        return False
    probe = scene.probe(server.name)
    busy = probe is not None and probe.metrics is not None and bool(probe.metrics.in_flight)
    missing = len(roster.standbys) < roster.wanted_standby
    return missing and server.state is PowerState.RUNNING and _answers(scene, server) and not busy


def _finished(scene: Scene, removal: RemovalMemory, *, stays: bool = False) -> Outcome:
    then = "; it becomes a standby node" if stays else ""
    message = f"{removal.node} is removed: {removal.reason}{then}"
    return Outcome(None, (scene.membership("removed", removal.node, message),))


def undrain(scene: Scene, removal: RemovalMemory | None) -> tuple[Step, ...]:
    """Tell agents that drain although nobody removes them (a crash, a cancel) that they do not."""
    steps: list[Step] = []
    for roster in scene.rosters:
        for server in (*roster.active, *roster.standbys):
            if (removal is None or removal.node != server.name) and _says_draining(scene, server):
                steps += _tell(scene, server, draining=False)
    return tuple(steps)
