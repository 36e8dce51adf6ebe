"""Who is who in a group: which servers are capacity, which only count, which are on their way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from control_node.balancer.model import Backends
from control_node.scaler import sampling
from control_node.scaler.types import Probe
from labcore.names import node_name
from labcore.wire.lab import Group, Lab, PowerState, Server, Wanted

if TYPE_CHECKING:
    from control_node.scaler.ledger import Ledger

# Positively not running: out of rotation at once, and healed if it is wanted on.
DOWN = frozenset({PowerState.STOPPED, PowerState.ABSENT, PowerState.SAVED, PowerState.ERROR})
# May answer requests. UNKNOWN says nothing about the server, so only its health does.
UP = frozenset({PowerState.RUNNING, PowerState.STARTING, PowerState.UNKNOWN})
# Takes room even if it is not wanted.
TAKES_ROOM = UP | {PowerState.STOPPING, PowerState.PAUSED}
HIGHEST_INDEX = 99  # the port formula ends there


@dataclass(frozen=True)
class Roster:
    """One group at one moment. Unscaled groups have min = max = their fixed size."""

    group: Group
    servers: tuple[Server, ...]  # by index
    wished: int  # as it is written
    desired: int  # the same, within min..max
    minimum: int
    maximum: int
    active: tuple[Server, ...]  # wanted on and capacity, now or soon; without the leaving one
    coming: frozenset[str]  # being powered on, and not wanted on before
    leaving: str | None  # the node that is being removed
    serving: frozenset[str]  # in the loaded configuration and answering
    occupied: int  # all that counts to the maximum
    standbys: tuple[Server, ...] = ()  # wanted as standby, ready or not; never capacity

    @property
    def count(self) -> int:
        """Nodes that are there or on their way, without the leaving one."""
        return len(self.active) + len(self.coming)

    @property
    def panel(self) -> frozenset[str]:
        """The nodes whose metrics stand for the group's."""
        return sampling.panel([s.name for s in self.servers if s.state in UP])

    @property
    def staying(self) -> frozenset[str]:
        """The nodes that serve and will go on doing so."""
        return self.serving - {self.leaving}

    @property
    def wanted_standby(self) -> int:
        """How many standby nodes the lab file wants."""
        return self.group.scaling.standby if self.group.scaling else 0

    @property
    def unknown(self) -> int:
        """Nodes of which the driver knows nothing and that do not serve."""
        return sum(
            s.state is PowerState.UNKNOWN
            and s.name not in self.serving
            and s.wanted is not Wanted.STANDBY
            for s in self.servers
        )

    def server(self, name: str) -> Server | None:
        """The server of that name."""
        return next((s for s in self.servers if s.name == name), None)


def with_known_addresses(lab: Lab, before: Lab | None) -> Lab:
    """`lab`, where servers of which the driver could say nothing keep the addresses they had.

    A question that failed moves no server: it goes on being asked, and served if it answers.
    """
    if before is None or not any(_is_mute(s) for s in lab.servers):
        return lab
    had = {s.name: s.endpoints for s in before.servers}
    servers = tuple(
        dataclasses.replace(s, endpoints=had.get(s.name, {})) if _is_mute(s) else s
        for s in lab.servers
    )
    return dataclasses.replace(lab, servers=servers)


def _is_mute(server: Server) -> bool:
    return server.state is PowerState.UNKNOWN and not server.endpoints


def managed_groups(lab: Lab, own_group: str) -> tuple[Group, ...]:
    """The groups whose membership is ours: scaled ones and those that our balancers route to."""
    routed = {r.to for b in lab.balancers if b.group == own_group for r in b.routes}
    return tuple(g for g in lab.groups if g.name != own_group and (g.scaling or g.name in routed))


@dataclass(frozen=True)
class Out:
    """Nodes that do not count as capacity, whatever the server-manager says of them."""

    leaving: str | None = None  # being removed
    given_up: frozenset[str] = frozenset()  # never healthy: to be replaced


@dataclass(frozen=True)
class Rotating:
    """What is seen of the nodes in rotation."""

    loaded: Backends
    probes: Mapping[str, Probe]


def make_roster(lab: Lab, group: Group, ledger: Ledger, out: Out, seen: Rotating) -> Roster:
    """Sort the servers of a group. Pure but for what the ledger remembers."""
    servers = lab.members(group.name)
    leaving = out.leaving
    gone = out.given_up | {leaving}
    active = tuple(s for s in servers if _is_active(s) and s.name not in gone)
    coming = _coming(group.name, servers, ledger, gone)
    counted = {s.name for s in servers if _occupies(s)} | coming
    minimum = group.scaling.min if group.scaling else group.desired_count
    maximum = group.scaling.max if group.scaling else group.desired_count
    written = ledger.count(group.name)
    wished = group.desired_count if written is None else written
    return Roster(
        group=group,
        servers=servers,
        wished=wished,
        desired=max(minimum, min(wished, maximum)),
        minimum=minimum,
        maximum=maximum,
        active=active,
        coming=coming,
        leaving=leaving if any(s.name == leaving for s in servers) else None,
        serving=_serving(group.name, seen),
        occupied=len(counted),
        standbys=tuple(s for s in servers if _stands_by(s)),
    )


def _is_active(server: Server) -> bool:
    out = (PowerState.LOST, PowerState.PAUSED)
    return server.wanted is Wanted.ON and server.state not in out


def _stands_by(server: Server) -> bool:
    return server.wanted is Wanted.STANDBY and server.state is not PowerState.LOST


def _occupies(server: Server) -> bool:
    if server.state is PowerState.LOST or server.wanted is Wanted.STANDBY:
        return False
    return server.wanted is Wanted.ON or server.state in TAKES_ROOM


def _coming(
    group: str, servers: tuple[Server, ...], ledger: Ledger, gone: frozenset[str | None]
) -> frozenset[str]:
    wanted = {s.name for s in servers if s.wanted is Wanted.ON}
    ons = (p.node for p in ledger.powers(group) if p.to == "on")
    return frozenset(node for node in ons if node not in wanted and node not in gone)


def free_names(roster: Roster) -> list[str]:
    """The names that a new server may have, lowest number first."""
    by_name = {s.name: s for s in roster.servers}
    names = (node_name(roster.group.name, index) for index in range(1, HIGHEST_INDEX + 1))
    return [
        name
        for name in names
        if name not in roster.coming and (name not in by_name or _is_free(by_name[name]))
    ]


def _is_free(server: Server) -> bool:
    taken = server.state in TAKES_ROOM or server.state is PowerState.LOST
    return server.wanted is Wanted.OFF and not taken


def _serving(group: str, seen: Rotating) -> frozenset[str]:
    loaded, probes = seen.loaded.get(group, ()), seen.probes
    return frozenset(
        b.node for b in loaded if b.node not in probes or probes[b.node].health in ("ok", "unknown")
    )
