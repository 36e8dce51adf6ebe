"""Standby nodes: booted, seen to be healthy, then paused, until a scale-out resumes one.

    wanted standby ──▶ runs ──▶ healthy, idle, not in nginx ──▶ paused = ready ──▶ on: joins
         ▲ created and booted         a removed node that is     scaled in again, or one too
         │ if one is missing          still healthy begins here  many: stays, or is turned off

They are the cheapest thing in the lab, so they wait: nothing is booted for them while the group
is on its way to another size, and no more than one at a time. Level-triggered like all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from control_node.scaler.roster import DOWN, TAKES_ROOM, Roster, free_names
from control_node.scaler.scene import Scene
from control_node.scaler.types import Power, Step
from labcore.wire.lab import LabState, PowerState, Server


def next_ones(scene: Scene, roster: Roster) -> list[str]:
    """The standby nodes to turn on before anything is booted: ready ones, then those on their way,
    each by number. One that failed to be turned on just now is passed over."""
    usable = [s for s in roster.standbys if s.state in TAKES_ROOM and _may_join(scene, s)]
    return [s.name for s in sorted(usable, key=_readiness)]


def _may_join(scene: Scene, server: Server) -> bool:
    power = scene.ledger.power(server.name)
    if power is not None:
        return power.to != "off"  # it is waited for: that is quicker than to boot another
    return scene.ledger.may(Power(server.name, server.group, "on"), scene.now)


def _readiness(server: Server) -> tuple[bool, int]:
    return server.state is not PowerState.PAUSED, server.index


def steps(scene: Scene) -> list[Step]:
    """What to do now; nothing while the server-manager is away, converges or wants the lab down."""
    if not scene.may_change or scene.lab.state is LabState.CONVERGING:
        return []
    found: list[Step] = []
    for roster in scene.rosters:
        found += _too_many(scene, roster)
        for server in roster.standbys:
            found += _towards_pause(scene, server)
        found += _too_few(scene, roster)
    return found


def _too_many(scene: Scene, roster: Roster) -> Iterator[Step]:
    left = [s for s in roster.standbys if _goes_nowhere(scene, s)]
    for server in sorted(left, key=_readiness)[roster.wanted_standby :]:
        yield from _begin(scene, server, "off")


def _goes_nowhere(scene: Scene, server: Server) -> bool:
    power = scene.ledger.power(server.name)
    return power is None or power.to not in ("on", "off")


def _towards_pause(scene: Scene, server: Server) -> Iterator[Step]:
    """Pause it once its health check answered, as only that says it may serve when it is resumed;
    and not while nginx or its agent know of a drain."""
    if server.state is PowerState.PAUSED:
        scene.ledger.forgive(Power(server.name, server.group, "standby"))
        scene.ledger.forgive(Power(server.name, server.group, "pause"))
        return
    probe = scene.probe(server.name)
    if server.state is not PowerState.RUNNING or probe is None or probe.health != "ok":
        return
    drains = probe.metrics is not None and probe.metrics.status == "draining"
    if not drains and scene.is_unreachable_by_nginx(server.name):
        yield from _begin(scene, server, "pause")


def _too_few(scene: Scene, roster: Roster) -> Iterator[Step]:
    if not _is_at_rest(roster) or any(p.to == "standby" for p in _powers(scene, roster)):
        return
    dead = [s for s in roster.standbys if s.state in DOWN and s.operation is None]
    if len([s for s in roster.standbys if s.state is not PowerState.PAUSED]) > len(dead):
        return  # one is on its way
    for server in dead[: roster.wanted_standby]:
        began = list(_begin(scene, server, "standby"))
        if began:
            yield from began
            return
    if len(roster.standbys) < roster.wanted_standby:
        power = Power(free_names(roster)[0], roster.group.name, "standby")
        if scene.ledger.may(power, scene.now):
            yield scene.ledger.begin(power)


def _powers(scene: Scene, roster: Roster) -> tuple[Power, ...]:
    return scene.ledger.powers(roster.group.name)


def _is_at_rest(roster: Roster) -> bool:
    """Whether the group has the size it should have, and all of it serves."""
    return (
        roster.count == roster.desired
        and roster.leaving is None
        and all(s.name in roster.serving for s in roster.active)
        and not roster.coming
    )


def _begin(scene: Scene, server: Server, to: Literal["off", "standby", "pause"]) -> Iterator[Step]:
    power = Power(server.name, server.group, to)
    if scene.ledger.may(power, scene.now):
        yield scene.ledger.begin(power)
