"""Which nodes should be backends: by their own health, by what the driver positively says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_node.balancer.model import Backend
from control_node.scaler.roster import UP
from control_node.scaler.types import Probe
from labcore.wire.lab import Server, Wanted

# A node that answers late or wrongly so many times in a row is suspected. One that refuses the
# connection is dead at once: nothing listens there.
SUSPECT_AFTER = 3
APP = "app"
METRICS = "metrics"


@dataclass(frozen=True)
class Rotation:
    """The nodes of one group that should be backends, and those put out only on suspicion."""

    members: frozenset[str] = frozenset()
    ejected: frozenset[str] = frozenset()


def address_of(server: Server, service: str) -> str | None:
    """Where this node (ours) reaches a service of `server`."""
    return server.endpoints.get("node", {}).get(service)


def rotate(
    servers: tuple[Server, ...],
    probes: Mapping[str, Probe],
    before: Rotation,
    going: frozenset[str],
) -> Rotation:
    """The next rotation of a group. Pure.

    A node joins when its health check answers, stays until it is known to be dead, and is put out
    after three late or wrong answers, but never so many on suspicion that less than half remains
    (Envoy's panic threshold, 50 %): agents that are late together are overloaded, not dead.
    A server that is not wanted stays until its removal unroutes it, and never joins. Nor does one
    that is `going`: its removal unrouted it, or it is being turned off or paused.
    """
    members: set[str] = set()
    suspects: list[Probe] = []
    for server in servers:
        name = server.name
        was_in = name in before.members or name in before.ejected
        if name in going or not _routable(server, was_in):
            continue
        probe = probes.get(name)
        if probe is not None and _is_suspect(probe, name in before.ejected) and was_in:
            suspects.append(probe)
        elif _belongs(probe, was_in):
            members.add(name)
    suspects.sort(key=lambda p: (p.node not in before.ejected, -p.failures, p.node))
    allowed = (len(members) + len(suspects)) // 2
    ejected = frozenset(p.node for p in suspects[:allowed])
    kept = frozenset(p.node for p in suspects[allowed:])
    return Rotation(frozenset(members) | kept, ejected)


def _routable(server: Server, was_in: bool) -> bool:
    wanted = server.wanted is Wanted.ON or (server.wanted is Wanted.OFF and was_in)
    return wanted and server.state in UP and address_of(server, APP) is not None


def _is_suspect(probe: Probe, is_out: bool) -> bool:
    late = probe.health in ("timeout", "bad")
    return late and (is_out or probe.failures >= SUSPECT_AFTER)


def _belongs(probe: Probe | None, was_in: bool) -> bool:
    if probe is None or probe.health == "unknown":
        return was_in  # not asked yet: adopt what runs
    if probe.health == "ok":
        return True
    return was_in and probe.health != "refused"


def backends(servers: tuple[Server, ...], rotation: Rotation) -> tuple[Backend, ...]:
    """The members as the balancer wants them, by index."""
    found = ((s.name, address_of(s, APP)) for s in servers if s.name in rotation.members)
    return tuple(Backend(name, address) for name, address in found if address is not None)
