"""What `status` says: one lab, as the server-manager and its scaler tell it, in one shape."""

from __future__ import annotations

import math
from typing import Any

from labcore.codec import encode
from labcore.errors import LabError
from labcore.wire.lab import Lab, LabState, PowerState, Server, Wanted
from labcore.wire.scaler import BreakerStatus, Decision, GroupStatus, NodeStatus, ScalerStatus

_OFF_STATES = (LabState.DOWN, LabState.CONVERGING, LabState.FAILED)


def compose(
    lab: Lab, scaler: ScalerStatus | None, problem: LabError | None, manager_url: str
) -> dict[str, Any]:
    """The JSON of `status -o json`. `problem` is why there is no `scaler`.

    `state` is the server-manager's, but `up` becomes `degraded` where the scaler or nginx do not
    work. Figures that nobody could be asked for are null. Beyond the contract: `groups`,
    `problems`, `desired`; of each node `member`, `phase`, `in_flight`, `cpu_history`, `problem`.
    """
    problems = _problems(lab, scaler, problem)
    groups = _groups(lab, scaler)
    known = {node.node: node for node in scaler.nodes} if scaler else {}
    backends = (
        sorted({n for names in scaler.balancer.backends.values() for n in names}, key=_order)
        if scaler
        else []
    )
    return {
        "lab": lab.lab,
        "driver": lab.driver,
        "state": "degraded" if problems and lab.state is LabState.UP else str(lab.state),
        "desired": str(lab.desired),
        "problems": problems,
        "load_balancer": {"url": lab.load_balancer_url, "backends": backends},
        "server_manager": {"url": manager_url},
        "scaler": {"url": lab.scaler_url, **(groups[0] if groups else {})},
        "groups": groups,
        "nodes": [_node(s, known.get(s.name), scaler) for s in _in_order(lab)],
    }


def _problems(lab: Lab, scaler: ScalerStatus | None, problem: LabError | None) -> list[str]:
    found = [lab.problem] if lab.problem else []
    found += _unknown(lab)
    if scaler is None and problem is not None and lab.state not in _OFF_STATES:
        found.append(f"{problem.message}; labctl up --lab {lab.lab} repairs it")
    if scaler is not None and scaler.balancer.problem:
        found.append(f"load balancer: {scaler.balancer.problem}; labctl up --lab {lab.lab}")
    if scaler is not None and not scaler.manager_reachable:
        found.append("the scaler does not reach the server-manager: it routes, but makes nothing")
    found += [
        _stopped(lab, group.group, group.breaker)
        for group in (scaler.groups if scaler is not None else ())
        if group.breaker is not None
    ]
    return found


def _unknown(lab: Lab) -> list[str]:
    """Why nobody knows of some nodes what they are; nodes of one reason are told together."""
    reasons: dict[str, list[str]] = {}
    for server in _in_order(lab):
        if server.state in (PowerState.UNKNOWN, PowerState.LOST) and server.problem:
            reasons.setdefault(f"{server.state}: {server.problem}", []).append(server.name)
    return [f"{', '.join(names)} {reason}" for reason, names in reasons.items()]


def _stopped(lab: Lab, group: str, breaker: BreakerStatus) -> str:
    minutes = math.ceil(breaker.remaining_s / 60.0)
    wait = f"no new nodes for {minutes} min" if minutes else "one new node is tried"
    return (
        f"{group}: {wait}, as {breaker.failures} boots in a row failed ({breaker.problem}); "
        f"mend it, then labctl autoscale reset --lab {lab.lab}"
    )


def _groups(lab: Lab, scaler: ScalerStatus | None) -> list[dict[str, Any]]:
    """The scaled groups; from the scaler, or what the registry knows of them."""
    told = {group.group: group for group in scaler.groups} if scaler else {}
    groups = []
    for group in lab.groups:
        if group.scaling is None:
            continue
        status = told.get(group.name)
        groups.append(
            {
                "group": group.name,
                "region": group.region,
                "mode": group.mode,
                "policy": group.scaling.policy,
                "min": group.scaling.min,
                "max": group.scaling.max,
                "count": group.desired_count,
                "standby": group.scaling.standby,
                "standby_ready": _ready(lab, group.name),
                **_from_scaler(status),
            }
        )
    return groups


def _ready(lab: Lab, group: str) -> int:
    """How many standby nodes are booted and paused."""
    waiting = (s for s in lab.members(group) if s.wanted is Wanted.STANDBY)
    return sum(s.state is PowerState.PAUSED for s in waiting)


def _from_scaler(status: GroupStatus | None) -> dict[str, Any]:
    if status is None:
        return {
            "serving": None,
            "cooldown_remaining_s": None,
            "last_decision": None,
            "removal": None,
            "breaker": None,
        }
    removal = status.removal
    return {
        "serving": status.serving,
        "cooldown_remaining_s": round(status.cooldown_remaining_s, 1),
        "last_decision": _decision(status.last_decision),
        "removal": {"node": removal.node, "step": removal.step} if removal else None,
        "breaker": encode(status.breaker),
    }


def _decision(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "seq": decision.seq,
        "at": decision.at,
        "action": str(decision.action),
        "count": decision.count,
        "reasons": list(decision.reasons),
        "vetoes": list(decision.vetoes),
    }


def _node(server: Server, known: NodeStatus | None, scaler: ScalerStatus | None) -> dict[str, Any]:
    node: dict[str, Any] = {
        "name": server.name,
        "group": server.group,
        "role": server.role,
        "region": server.region,
        "member": server.member,
        "state": str(server.state),
        "health": _health(server, known, scaler),
        "in_rotation": known.in_rotation if known else False,
        "cpu_percent": known.cpu_percent if known else None,
        "memory_percent": known.memory_percent if known else None,
        "in_flight": known.in_flight if known else None,
        "phase": known.phase if known else None,
        "cpu_history": list(known.cpu_history) if known else [],
        "endpoints": _endpoints(server),
    }
    if server.problem:
        node["problem"] = server.problem
    return node


def _health(server: Server, known: NodeStatus | None, scaler: ScalerStatus | None) -> str:
    """Asked of the scaler; the node that it runs on is healthy if it answers and nginx does."""
    if known is not None:
        return str(known.health)
    if server.role != "control" or server.state is not PowerState.RUNNING:
        return "unknown"
    return "healthy" if scaler and scaler.balancer.problem is None else "unhealthy"


def _endpoints(server: Server) -> dict[str, str | None]:
    """As the host sees them: URLs, and for ssh the bare address or null."""
    seen = server.endpoints.get("host", {})
    urls: dict[str, str | None] = {
        service: f"http://{address}" for service, address in seen.items() if service != "ssh"
    }
    return {**urls, "ssh": seen.get("ssh")}


def _in_order(lab: Lab) -> list[Server]:
    """Groups as the lab file has them, members by number."""
    position = {group.name: index for index, group in enumerate(lab.groups)}
    return sorted(lab.servers, key=lambda s: (position.get(s.group, len(position)), s.index))


def _order(name: str) -> tuple[str, int]:
    head, _, tail = name.rpartition("-")
    return (head, int(tail)) if tail.isdigit() else (name, 0)
