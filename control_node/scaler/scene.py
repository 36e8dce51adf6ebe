"""One step's material, sorted once and read by every part of the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_node.balancer.model import Backends
from control_node.scaler.ledger import Ledger
from control_node.scaler.roster import Roster
from control_node.scaler.types import Probe, Publish, View
from labcore.clock import rfc3339
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Desired, Lab, Server


@dataclass(frozen=True)
class Scene:
    """What one step works with. `ledger` is the only part that changes during the step."""

    now: float
    view: View
    lab: Lab
    rosters: tuple[Roster, ...]
    ledger: Ledger
    routed: frozenset[str]  # the nodes of the routing that is wanted
    loaded: Backends  # what nginx was last seen to have; while it reloads, answers are mixed

    @property
    def may_change(self) -> bool:
        """Whether servers may be made and removed: the server-manager answers and wants it up."""
        return self.view.reachable and self.lab.desired is Desired.UP

    @property
    def at(self) -> str:
        """The time of day as it stands on the wire."""
        return rfc3339(self.view.at)

    @property
    def loaded_nodes(self) -> frozenset[str]:
        """The nodes in `loaded`."""
        return frozenset(b.node for members in self.loaded.values() for b in members)

    def roster(self, group: str) -> Roster | None:
        """The roster of a group of ours."""
        return next((r for r in self.rosters if r.group.name == group), None)

    def find(self, node: str) -> tuple[Roster, Server] | None:
        """A server of ours with its roster."""
        for roster in self.rosters:
            server = roster.server(node)
            if server is not None:
                return roster, server
        return None

    def probe(self, node: str) -> Probe | None:
        """What asking the node told."""
        return self.view.probes.get(node)

    def is_unreachable_by_nginx(self, node: str) -> bool:
        """Whether the *loaded* configuration is known not to name `node`, and none is on its way.

        The condition without which nothing is powered off.
        """
        seen = self.view.balancer
        if self.ledger.routing or node in self.routed:
            return False
        if not seen.confirmed or seen.backends is None:
            return False
        return all(b.node != node for members in seen.backends.values() for b in members)

    def publish(
        self, kind: EventKind, message: str, node: str | None, data: Mapping[str, object]
    ) -> Publish:
        """An event of this lab, now."""
        return Publish(Event(0, self.at, self.lab.lab, kind, message, node, data))

    def membership(
        self, change: str, node: str, message: str, more: Mapping[str, object] | None = None
    ) -> Publish:
        """A `membership` event with the backends that the loaded configuration has."""
        data = {"change": change, "backends": sorted(self.loaded_nodes), **(more or {})}
        return self.publish(EventKind.MEMBERSHIP, message, node, data)

    def problem(self, code: str, node: str | None, message: str, hint: str = "") -> Publish:
        """A `problem` event."""
        data = {"code": code, "message": message, "hint": hint}
        return self.publish(EventKind.PROBLEM, message, node, data)
