"""The breaker: after several boots in a row that failed, no new node is made for a while.

    closed ──5 failures in a row──▶ open for 5 min ──▶ one node is tried ──it gets healthy──▶ closed
                                      ▲ 10, 20, 30 min ◀──it fails too──┘

A boot is begun by turning a node on that has not been seen healthy since it was last off. It
fails if the driver fails, if the node dies before it is healthy, or if it is given up. Nodes that
were healthy before are healed all the same, at the ledger's pace, and ready standby nodes join.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from control_node.scaler.roster import DOWN
from control_node.scaler.types import Done, Power, Probe, View
from labcore.wire.lab import PowerState, Server, Wanted
from labcore.wire.scaler import BreakerStatus

FAILURES = 5
FIRST_PAUSE_S = 300.0
LONGEST_PAUSE_S = 1800.0
# Errors that say nothing about booting: the request was refused, or did not arrive.
REFUSALS = frozenset({"conflict", "unreachable", "unauthorized", "forbidden", "usage", "not-found"})


@dataclass(frozen=True)
class Breaker:
    """Of one group; saved over a restart."""

    failures: int = 0  # boots in a row that failed
    pauses: int = 0  # in a row
    until: float | None = None  # open until then (monotonic); None: closed
    problem: str = ""  # of the last failure

    def failed(self, now: float, problem: str) -> Breaker:
        """After one more failure; one that was begun before it opened makes no pause longer."""
        counted = dataclasses.replace(self, failures=self.failures + 1, problem=problem)
        if counted.failures < FAILURES or self.remaining_s(now):
            return counted
        pause_s = min(FIRST_PAUSE_S * 2.0**self.pauses, LONGEST_PAUSE_S)
        return dataclasses.replace(counted, pauses=self.pauses + 1, until=now + pause_s)

    def remaining_s(self, now: float) -> float:
        """Until one node is tried again; 0.0 if it is closed or that time has come."""
        return 0.0 if self.until is None else max(0.0, self.until - now)

    def sentence(self, now: float) -> str:
        """Why nothing is made now; "" if that is not so."""
        minutes, seconds = divmod(round(self.remaining_s(now)), 60)
        if not self.remaining_s(now):
            return ""
        wait = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        return (
            f"no new node for {wait}: {self.failures} boots in a row failed, the last because of: "
            f"{self.problem}"
        )

    def wire(self, now: float) -> BreakerStatus | None:
        """The same as it stands in the status; None if it is closed."""
        if self.until is None:
            return None
        return BreakerStatus(self.failures, round(self.remaining_s(now), 1), self.problem)

    def rebooted(self) -> Breaker:
        """After a reboot, when `until` means nothing: the failures count, one node may be tried."""
        return self if self.until is None else dataclasses.replace(self, until=0.0)


@dataclass
class Boots:
    """Which nodes of a group boot, and which were healthy. All but `breaker` may be forgotten."""

    breaker: Breaker = field(default_factory=Breaker)
    trying: dict[str, bool] = field(default_factory=dict)  # -> it was seen to run
    proven: set[str] = field(default_factory=set)

    def look(
        self, view: View, now: float, servers: tuple[Server, ...], given_up: frozenset[str]
    ) -> Breaker:
        """Take note of what ended well and what did not."""
        breaker = self.breaker
        for server in servers:
            self._note(server, view.probes.get(server.name))
            if server.name in self.proven and self.trying.pop(server.name, None) is not None:
                breaker = Breaker()
        for name, problem in self._failed(view.done, servers, given_up):
            if self.trying.pop(name, None) is not None:
                breaker = breaker.failed(now, problem)
        self.breaker = breaker
        return breaker

    def _note(self, server: Server, probe: Probe | None) -> None:
        if server.wanted is Wanted.OFF:
            self.proven.discard(server.name)
        elif probe is not None and probe.health == "ok":
            self.proven.add(server.name)
        if server.name in self.trying and server.state is PowerState.RUNNING:
            self.trying[server.name] = True

    def _failed(
        self, ended: Iterable[Done], servers: tuple[Server, ...], given_up: frozenset[str]
    ) -> Iterable[tuple[str, str]]:
        for done in ended:
            power = done.operation
            if isinstance(power, Power) and done.problem and done.code not in REFUSALS:
                yield power.node, done.problem
        for server in servers:
            if server.name in given_up:
                yield server.name, f"{server.name} runs, but never got healthy"
            elif self.trying.get(server.name) and server.state in DOWN:
                yield server.name, f"{server.name} stopped before it was healthy"

    def begin(self, node: str) -> None:
        """Note that a node is being turned on."""
        if node not in self.proven:
            self.trying[node] = False

    def may(self, node: str, now: float) -> bool:
        """Whether a node may be turned on: after a pause one at a time, until one is healthy."""
        if self.breaker.until is None or node in self.proven:
            return True
        return not self.breaker.remaining_s(now) and not self.trying.keys() - {node}
