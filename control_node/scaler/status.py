"""What `GET /status` tells, made from the last step. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from control_node.policies.types import History
from control_node.scaler.controller import Controller
from control_node.scaler.roster import DOWN, Roster
from control_node.scaler.rotation import Rotation
from control_node.scaler.scene import Scene
from control_node.scaler.types import Probe
from labcore.clock import rfc3339
from labcore.wire.lab import PowerState, Scaling, Server, Wanted
from labcore.wire.scaler import (
    BalancerStatus,
    GroupStatus,
    Health,
    NodeStatus,
    ScalerStatus,
)

Phase = Literal["off", "booting", "serving", "unhealthy", "draining", "standby", "paused"]


def scaler_status(lab: str, at: datetime, controller: Controller) -> ScalerStatus:
    """The whole status; nearly empty while nothing is known of the lab."""
    scene = controller.scene
    if scene is None:
        return ScalerStatus(lab, rfc3339(at), False, BalancerStatus(None, {}), (), ())
    return ScalerStatus(
        lab=lab,
        at=scene.at,
        manager_reachable=scene.view.reachable,
        balancer=dataclasses.replace(scene.view.balancer, backends=scene.loaded).wire(),
        groups=tuple(
            group_status(controller, scene, roster)
            for roster in scene.rosters
            if roster.group.scaling is not None
        ),
        nodes=tuple(
            _node(scene, roster, server, controller.rotations)
            for roster in scene.rosters
            for server in roster.servers
        ),
    )


def group_status(controller: Controller, scene: Scene, roster: Roster) -> GroupStatus:
    """One scaled group."""
    group = roster.group
    scaling = group.scaling or Scaling()
    memory = controller.state.of_group(group.name)
    removal = controller.state.removal
    mine = removal is not None and removal.group == group.name
    return GroupStatus(
        group=group.name,
        mode=group.mode,
        policy=scaling.policy,
        min=roster.minimum,
        max=roster.maximum,
        desired_count=roster.desired,
        serving=len(roster.staying),
        cooldown_remaining_s=_cooldown(memory.history, scaling, scene.now),
        last_decision=memory.last_decision,
        removal=removal.wire() if removal is not None and mine else None,
        breaker=memory.breaker.wire(scene.now),
    )


def _cooldown(history: History, scaling: Scaling, now: float) -> float:
    """Until the policy may change the count in either direction; 0.0 if it may now."""
    changes = [at for at in (history.last_out_at, history.last_in_at) if at is not None]
    if not changes:
        return 0.0
    longest = max(scaling.cooldown_out_s, scaling.cooldown_in_s)
    return round(max(0.0, max(changes) + longest - now), 1)


def _node(
    scene: Scene, roster: Roster, server: Server, rotations: Mapping[str, Rotation]
) -> NodeStatus:
    probe = scene.probe(server.name)
    loaded = scene.loaded.get(roster.group.name, ())
    in_rotation = any(b.node == server.name for b in loaded)
    metrics = probe.metrics if probe and not probe.metrics_problem else None
    return NodeStatus(
        node=server.name,
        group=roster.group.name,
        health=_health(probe),
        in_rotation=in_rotation,
        phase=_phase(roster, server, in_rotation, rotations, probe),
        cpu_percent=metrics.cpu if metrics else None,
        memory_percent=metrics.memory.percent if metrics else None,
        in_flight=metrics.in_flight if metrics else None,
        cpu_history=probe.cpu_history if probe else (),
    )


def _health(probe: Probe | None) -> Health:
    if probe is None or probe.health == "unknown":
        return Health.UNKNOWN
    return Health.HEALTHY if probe.health == "ok" else Health.UNHEALTHY


def _phase(
    roster: Roster,
    server: Server,
    in_rotation: bool,
    rotations: Mapping[str, Rotation],
    probe: Probe | None,
) -> Phase:
    if server.name == roster.leaving:
        return "draining"
    if server.state is PowerState.PAUSED or server.wanted is Wanted.STANDBY:
        return _waiting_phase(roster, server)
    if server.state in DOWN or server.state is PowerState.LOST:
        return "booting" if server.name in roster.coming else "off"
    rotation = rotations.get(roster.group.name, Rotation())
    if in_rotation and server.name in rotation.members:
        return "serving"
    seen = probe is not None and probe.metrics is not None and probe.health != "ok"
    if server.name in rotation.ejected or in_rotation or seen:
        return "unhealthy"
    return "booting" if server.wanted is Wanted.ON else "off"


def _waiting_phase(roster: Roster, server: Server) -> Phase:
    """Of paused nodes, and of standby nodes on their way there; one that was told to join boots,
    as far as anybody can see."""
    if server.wanted is not Wanted.STANDBY:
        return "paused"
    if server.state is PowerState.PAUSED and server.name not in roster.coming:
        return "standby"
    return "off" if server.state in DOWN or server.state is PowerState.LOST else "booting"
