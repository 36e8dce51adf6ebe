"""The servers, which a fake driver makes, and the agents that live on those that run."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from control_node.scaler.fetch import Reply
from labcore.wire.lab import PowerState
from server_manager.drivers.base import DriverServer, ServerRef, ServerSpec
from server_manager.drivers.fake import FakeDriver, _Plan, _Server
from tests.simulation.loop import Loop

GIB = 1024**3
MUTATIONS = frozenset({"create", "start", "stop", "destroy", "pause", "resume"})
ON = frozenset({PowerState.STARTING, PowerState.RUNNING, PowerState.PAUSED})


class Watcher(Protocol):
    """What is told of driver calls. It may raise Killed: the caller dies there."""

    def crossing(self, where: str) -> None:
        """A place where the caller may die."""
        ...

    def effect(self, operation: str, ref: ServerRef) -> None:
        """A call is about to change a server."""
        ...


class SimDriver(FakeDriver):
    """A FakeDriver whose changes take time and are watched, and of which the truth is known.

    `fired` counts the faults that it really commits.
    """

    def __init__(
        self, loop: Loop, rng: random.Random, watcher: Watcher, fired: Counter[str]
    ) -> None:
        super().__init__(loop.clock)
        self._fired = fired
        self.bad_boots: dict[str, float] = {}  # node -> seconds that its next life lasts
        self.takes_s = (0.01, 0.05)
        self.changed: Callable[[], None] = lambda: None  # called after each change
        self._loop = loop
        self._rng = rng
        self._watcher = watcher

    def _call(self, operation: str, ref: ServerRef, do: Callable[[], None]) -> None:
        if operation not in MUTATIONS:
            super()._call(operation, ref, do)
            return

        def watched() -> None:
            self._watcher.effect(operation, ref)
            do()
            if operation == "start":
                self._started(ref)
            self.changed()

        self._watcher.crossing(f"before {operation}")
        self._loop.sleep(self._rng.uniform(*self.takes_s))
        super()._call(operation, ref, watched)
        self._watcher.crossing(f"after {operation}")

    def _started(self, ref: ServerRef) -> None:
        if self.boot_of(ref.lab, ref.name) and self.life(ref.lab, ref.name) == self._loop.now:
            self._fired["a slow boot"] += 1
        if ref.name in self.bad_boots:
            self._fired["a death while it boots"] += 1
            self.die(ref.lab, ref.name, after_s=self.bad_boots.pop(ref.name))

    def _take_plan(self, operation: str, node: str) -> _Plan | None:
        plan = super()._take_plan(operation, node)
        if plan is not None:
            self._fired[f"{operation}: {plan.failure}"] += 1
        return plan

    def _look(self, ref: ServerRef) -> DriverServer:
        found = super()._look(ref)
        if found.problem is not None and (told := self.told(ref.lab, ref.name)) is not None:
            self._fired[f"told {told}"] += 1
        return found

    @property
    def may_hang(self) -> bool:
        """Whether a question may take a while."""
        return any(plan.operation == "get" and plan.left for plan in self._plans)

    def put_in(self, specs: Mapping[tuple[str, str], ServerSpec]) -> None:
        """Servers that have been running for a while."""
        for key, spec in specs.items():
            self._servers[key] = _Server(spec, on_since=0.0)

    def forget_plans(self) -> None:
        """Let all calls go well from now on."""
        self._plans.clear()
        self._boot_of.clear()
        self.bad_boots.clear()
        for server in self._servers.values():
            server.told = None

    def truth(self, lab: str, node: str) -> PowerState:
        """What a server really is, whatever is told of it."""
        server = self._servers.get((lab, node))
        if server is None:
            return PowerState.ABSENT
        if server.dies_at is not None:
            self._let_die()
        return self._state(server)

    def names(self, lab: str) -> list[str]:
        """The servers of a lab."""
        return [name for of, name in self._servers if of == lab]

    def told(self, lab: str, node: str) -> PowerState | None:
        """The lie that is told of a server."""
        server = self._servers.get((lab, node))
        return server.told if server is not None else None

    def life(self, lab: str, node: str) -> float | None:
        """When a server was turned on: which of its lives it is in."""
        server = self._servers.get((lab, node))
        return server.on_since if server is not None else None

    def boot_of(self, lab: str, node: str) -> float:
        """How long its present boot takes."""
        server = self._servers.get((lab, node))
        return server.boot_s if server is not None else 0.0

    def node_at(self, lab: str, address: str) -> str | None:
        """Whose service listens at an address."""
        port = int(address.rpartition(":")[2])
        for (of, name), server in self._servers.items():
            if of == lab and any(f.host_port == port for f in server.spec.forwards):
                return name
        return None


Lie = Literal["zero", "full", "nan", "negative", "old", "stranger", "garbage", "half", "silent"]
Illness = Literal["timeout", "error", "half"]
ILL: Mapping[Illness, Reply] = {
    "timeout": Reply(problem="timeout", reason="no answer within 2 s"),
    "error": Reply(500, b"{}"),
    "half": Reply(problem="broken", reason="closed before its answer"),
}


@dataclass
class Agent:
    """One node as its own programs see it."""

    name: str
    life: float | None = None
    app_s: float = 0.0  # from the end of its boot to its app's first answer
    draining: bool = False
    seq: int = 0
    unreached_since: float | None = None
    lie: Lie | None = None
    illness: Illness | None = None
    deaf: bool = False  # does not hear that it drains
    never_up: bool = False  # its app does not start in this life


@dataclass
class Load:
    """What is asked of the lab: `demand` in per cent of one node's CPU."""

    demand: float = 60.0
    tail_s: float = 1.0  # how long the last request of a node takes that gets no more


@dataclass
class Agents:
    """All agents of one lab. `reached` are the nodes that nginx sends requests to."""

    lab: str
    loop: Loop
    rng: random.Random
    driver: SimDriver
    reached: Callable[[], frozenset[str]]
    fired: Counter[str]
    load: Load = field(default_factory=Load)
    app_s: float = 0.05  # of the lives that begin now
    broken_boots: set[str] = field(default_factory=set)  # their next life's app never comes up
    by_name: dict[str, Agent] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Agent:
        """The agent of that name, in the life that its server is in."""
        agent = self.by_name.setdefault(name, Agent(name))
        life = self.driver.life(self.lab, name)
        if life != agent.life:
            kept = (agent.lie, agent.illness, agent.deaf)
            agent = self.by_name[name] = Agent(name, life, self.app_s, seq=self.rng.randrange(3))
            agent.lie, agent.illness, agent.deaf = kept
            if life is not None and name in self.broken_boots:
                self.broken_boots.discard(name)
                self.fired["a boot without an app"] += 1
                agent.never_up = True
        return agent

    def runs(self, name: str) -> bool:
        """Whether its programs run: its server does, and has booted."""
        return self.driver.truth(self.lab, name) is PowerState.RUNNING

    def answers(self, name: str) -> bool:
        """Whether its app answers requests."""
        if not self.runs(name):
            return False
        agent = self[name]
        if agent.never_up or agent.illness is not None:
            return False
        booted = (agent.life or 0.0) + self.driver.boot_of(self.lab, name)
        return self.loop.now >= booted + agent.app_s

    def serving(self, loaded: frozenset[str]) -> frozenset[str]:
        """Those that nginx's configuration names and that answer."""
        return frozenset(name for name in loaded if self.answers(name))

    # ------------------------------------------------------------------ their answers

    def health(self, name: str) -> Reply:
        """What `GET /health` of its app comes to."""
        if self.driver.truth(self.lab, name) is PowerState.PAUSED:
            return Reply(problem="timeout", reason="no answer within 2 s")
        illness = self[name].illness
        if illness is not None and self.runs(name):
            self.fired[f"health: {illness}"] += 1
            return ILL[illness]
        if not self.answers(name):
            return Reply(problem="refused", reason="nothing listens: connection refused")
        return Reply(200, b'{"status": "ok"}')

    def metrics(self, name: str) -> Reply:
        """What `GET /metrics` comes to: the truth, or what it was told to say instead."""
        agent = self[name]
        if not self.runs(name):
            frozen = self.driver.truth(self.lab, name) is PowerState.PAUSED
            return Reply(problem="timeout" if frozen else "refused", reason="no answer")
        if agent.lie is not None:
            self.fired[f"metrics: {agent.lie}"] += 1
        if agent.lie == "silent":
            return Reply(problem="timeout", reason="no answer within 2 s")
        if agent.lie == "half":
            return Reply(problem="broken", reason="closed before its answer")
        if agent.lie == "garbage":
            return Reply(200, b'{"cpu": 45.2, "memory": {"tot')
        if agent.lie != "old":
            agent.seq += 1
        return Reply(200, json.dumps(self._sample(agent)).encode())

    def _sample(self, agent: Agent) -> dict[str, object]:
        busy = self.reached()
        share = min(100.0, self.load.demand / max(1, len(busy))) if agent.name in busy else 0.0
        lies = {"zero": 0.0, "full": 100.0, "nan": math.nan, "negative": -5.0}
        cpu = lies.get(agent.lie or "", share)
        percent = 0.0 if agent.lie == "zero" else 20.0 + 0.15 * share
        memory = {"total": GIB, "available": GIB // 2, "percent": percent}
        return {
            "cpu": cpu,
            "memory": memory,
            "status": "draining" if agent.draining else "active",
            "node": "agent-77" if agent.lie == "stranger" else agent.name,
            "seq": agent.seq,
            "uptime_s": self.loop.now - (agent.life or 0.0),
            "in_flight": self._in_flight(agent, share, busy),
        }

    def _in_flight(self, agent: Agent, share: float, busy: frozenset[str]) -> int:
        if agent.name in busy:
            agent.unreached_since = None
            return math.ceil(share / 10)
        if agent.unreached_since is None:
            agent.unreached_since = self.loop.now
        return int(self.loop.now - agent.unreached_since < self.load.tail_s)

    def hear_drain(self, name: str, draining: bool) -> bool:
        """`POST /drain`; whether it was heard."""
        agent = self[name]
        if not self.runs(name):
            return False
        if agent.deaf:
            self.fired["a drain that is not heard"] += 1
            return False
        agent.draining = draining
        return True
