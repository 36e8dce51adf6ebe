"""The balancer of the simulation: a fake one that commits the faults it is told to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

from control_node.balancer.fake import FakeBalancer
from control_node.balancer.model import Routing, View


@dataclass
class SimBalancer(FakeBalancer):
    """While it reloads, old and new workers answer side by side: what answers is not known.

    `fired` counts the faults that it really commits.
    """

    fired: Counter[str] = field(default_factory=Counter)

    def submit(self, routing: Routing) -> str:
        """See LoadBalancer."""
        before = dataclasses.replace(self.faults)
        try:
            return super().submit(routing)
        finally:
            if self.faults.refuse_tests < before.refuse_tests:
                self.fired["nginx -t fails"] += 1
            if self.faults.ignore_reloads < before.ignore_reloads:
                self.fired["a reload is ignored"] += 1

    def _take_over(self, at: float) -> None:
        if self.faults.stuck_workers:
            self.fired["old workers stay"] += 1
        super()._take_over(at)

    def poll(self) -> View:
        """See LoadBalancer."""
        view = super().poll()
        if self.faults.down:
            self.fired["nginx does not run"] += 1
        if view.confirmed or self._due_at is None:
            return view
        return dataclasses.replace(view, answered=None, backends=None)

    def loaded(self) -> frozenset[str]:
        """The nodes in the configuration that new requests follow."""
        self._advance()
        if self.faults.down or self._loaded is None:
            return frozenset()
        return frozenset(b.node for m in self._loaded.backends.values() for b in m)
