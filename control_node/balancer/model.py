"""What a balancer is told and what it is seen to do. The scaler knows nothing else of nginx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from labcore.wire.lab import Balancer
from labcore.wire.scaler import BalancerStatus


@dataclass(frozen=True, order=True)
class Backend:
    """One agent as nginx sees it."""

    node: str
    address: str  # "address:port" of its app, as the control node reaches it


Backends = Mapping[str, tuple[Backend, ...]]  # group -> members; their order means nothing


@dataclass(frozen=True)
class Routing:
    """What the balancers of one node should do. Groups without backends answer 503."""

    balancers: tuple[Balancer, ...]
    backends: Backends = field(default_factory=dict)
    drain_s: float = 30.0  # how long old workers may finish their requests


@dataclass(frozen=True)
class View:
    """What one `poll` saw."""

    submitted: str | None  # the generation last submitted, over a scaler restart too
    answered: str | None  # the one that all fresh connections answered with, if all did
    backends: Backends | None  # those of `answered`; None if that is not known
    old_workers: tuple[int, ...] = ()  # pids of workers with an earlier configuration
    problem: str | None = None

    @property
    def confirmed(self) -> bool:
        """The submitted generation is the one that answers."""
        return self.submitted is not None and self.submitted == self.answered

    @property
    def drained(self) -> bool:
        """Confirmed, and nothing of an earlier generation is left to finish a request."""
        return self.confirmed and not self.old_workers

    def may_reach(self, node: str) -> bool:
        """Whether a request may still be sent to `node`: false only when that is known."""
        if not self.drained or self.backends is None:
            return True
        return any(b.node == node for members in self.backends.values() for b in members)

    def wire(self) -> BalancerStatus:
        """The same as it stands in the scaler's status."""
        groups = (self.backends or {}).items()
        nodes = {group: tuple(b.node for b in members) for group, members in groups}
        return BalancerStatus(self.answered, nodes, self.problem)


class LoadBalancer(Protocol):
    """A balancer that is changed in two steps, neither of which waits for the change to happen.

    `submit` asks, `poll` looks. One generation in flight at a time is the caller's business; a
    second `submit` before the first is confirmed is allowed, the newest wins, and the workers of
    both earlier generations count as old until they are gone.
    """

    def submit(self, routing: Routing) -> str:
        """Make `routing` the wish and return its generation; returns within seconds.

        Nothing happens if that generation answers already, or is on its way. Raises UsageProblem
        (a routing that cannot be written down) and DriverFailed (the balancer refuses it): then
        everything is as it was. Raises Unreachable if the balancer is not running: then it will
        follow `routing` when it starts.
        """
        ...

    def poll(self) -> View:
        """Look at what answers and which old workers live; returns within seconds, never raises."""
        ...
