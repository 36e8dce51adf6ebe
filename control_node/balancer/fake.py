"""A balancer in memory, on a clock that may be virtual: for the simulator and for tests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from control_node.balancer.model import Backends, Routing, View
from labcore import codec
from labcore.clock import Clock
from labcore.errors import DriverFailed, Unreachable


@dataclass
class Faults:
    """What goes wrong next. Counters go down by one each time they have hit."""

    refuse_tests: int = 0  # `nginx -t` fails
    ignore_reloads: int = 0  # the signal is lost: the old generation goes on answering
    stuck_workers: int = 0  # old workers of a reload never exit, not even after `drain_s`
    down: bool = False  # nginx does not run


@dataclass(frozen=True)
class _Old:
    """The workers of one earlier generation."""

    pid: int
    backends: Backends
    gone_at: float


@dataclass
class FakeBalancer:
    """LoadBalancer without nginx: a reload is seen `reload_s` after its submit; old workers then
    live for another `linger_s`, or the routing's `drain_s` if that is less.
    """

    clock: Clock
    reload_s: float = 0.15
    linger_s: float = 1.0
    faults: Faults = field(default_factory=Faults)
    _submitted: str | None = None
    _answered: str | None = None
    _wish: Routing | None = None
    _loaded: Routing | None = None
    _due_at: float | None = None
    _pid: int = 1
    _old: list[_Old] = field(default_factory=list)

    def submit(self, routing: Routing) -> str:
        """See LoadBalancer."""
        self._advance()
        generation = generation_of(routing)
        on_its_way = self._answered == generation or self._due_at is not None
        if generation == self._submitted and on_its_way:
            return generation
        if self.faults.refuse_tests:
            self.faults.refuse_tests -= 1
            raise DriverFailed("nginx refuses the configuration: planned")
        self._submitted, self._wish = generation, routing
        if self.faults.down:
            raise Unreachable("nginx is not running: planned")
        if self.faults.ignore_reloads:
            self.faults.ignore_reloads -= 1
        else:
            self._due_at = self.clock.monotonic() + self.reload_s
        return generation

    def poll(self) -> View:
        """See LoadBalancer."""
        self._advance()
        if self.faults.down:
            return View(self._submitted, None, None, problem="nginx is not running")
        backends = _normal(self._loaded.backends) if self._loaded else None
        pids = tuple(old.pid for old in self._old)
        if self._due_at is not None:
            pids = (*pids, self._pid)
        return View(self._submitted, self._answered, backends, pids)

    def restart(self) -> None:
        """nginx dies with all its workers (if it runs) and starts with what was submitted last."""
        self.faults.down = False
        self._old.clear()
        self._pid += 1
        self._due_at = None
        self._answered, self._loaded = self._submitted, self._wish

    def reached(self) -> frozenset[str]:
        """The nodes that may be sent a request now, by any worker: what the simulator routes by."""
        self._advance()
        if self.faults.down:
            return frozenset()
        sets = [self._loaded.backends] if self._loaded else []
        sets += [old.backends for old in self._old]
        return frozenset(b.node for s in sets for members in s.values() for b in members)

    def _advance(self) -> None:
        now = self.clock.monotonic()
        if self._due_at is not None and now >= self._due_at and not self.faults.down:
            self._take_over(self._due_at)
        self._old = [old for old in self._old if old.gone_at > now]

    def _take_over(self, at: float) -> None:
        drain_s = self._loaded.drain_s if self._loaded else 0.0
        lives_s = min(self.linger_s, drain_s)
        if self.faults.stuck_workers:
            self.faults.stuck_workers -= 1
            lives_s = float("inf")
        self._old.append(
            _Old(self._pid, self._loaded.backends if self._loaded else {}, at + lives_s)
        )
        self._pid += 1
        self._answered, self._loaded, self._due_at = self._submitted, self._wish, None


def generation_of(routing: Routing) -> str:
    """Equal for equal routing; the order of backends does not count."""
    value = [
        codec.encode(routing.balancers),
        codec.encode(_normal(routing.backends)),
        routing.drain_s,
    ]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _normal(backends: Backends) -> Backends:
    return {group: tuple(sorted(members)) for group, members in backends.items() if members}
