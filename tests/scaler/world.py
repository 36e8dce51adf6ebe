"""A lab in memory on a virtual clock: server-manager, agents and balancer around one controller.

`World.tick` is what the runner does, without threads: gather, step, save, carry out. Operations
take virtual time; their results, like every view, are as old as they really would be.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from control_node import policies
from control_node.balancer.fake import FakeBalancer
from control_node.balancer.model import View as BalancerView
from control_node.scaler.controller import Controller
from control_node.scaler.state import Store
from control_node.scaler.types import (
    Done,
    Operation,
    Policy,
    Power,
    Probe,
    ProbeHealth,
    Publish,
    SetCount,
    Step,
    TellDrain,
    View,
)
from labcore.clock import FakeClock
from labcore.errors import Conflict, LabError, Unreachable
from labcore.wire.event import Event
from labcore.wire.lab import (
    Balancer,
    Desired,
    Group,
    Lab,
    LabState,
    Mode,
    PowerState,
    Route,
    Scaling,
    Server,
    Wanted,
)
from labcore.wire.metrics import AgentMetrics, Memory

GIB = 1024**3
T = TypeVar("T")


class Crash(Exception):
    """The scaler dies here."""


@dataclass
class Agent:
    """One node as the world knows it; `booted` is when its app begins to answer."""

    name: str
    index: int
    wanted: Wanted = Wanted.ON
    state: PowerState = PowerState.ABSENT
    booted: float = 0.0
    draining: bool = False
    cpu: float = 50.0
    memory: float = 50.0
    in_flight: int | None = 0
    health: ProbeHealth = "ok"  # while it runs: ok, refused, timeout or bad
    has_metrics: bool = True
    is_frozen: bool = False  # its seq stands still
    failures: int = 0
    operation: str | None = None


@dataclass
class World:
    """See the module. The controller steps every `tick_s`, or `quiet_s` while nothing happens."""

    path: Path
    initial: int = 2
    scaling: Scaling = field(default_factory=Scaling)
    mode: Mode = "manual"
    boot_s: float = 0.5
    power_s: float = 0.2
    tick_s: float = 0.1
    boot_limit_s: float = 60.0
    quiet_s: float = 0.5
    lab_every_s: float = 0.0
    policy: Policy = policies

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.agents: dict[str, Agent] = {}
        self.desired = self.initial
        self.lab_desired = Desired.UP
        self.lab_state = LabState.UP
        self.is_away = False
        self.refuses: Callable[[Operation], str | None] = lambda operation: None
        self.balancer = FakeBalancer(self.clock)
        self.events: list[Event] = []
        self.steps: list[Step] = []
        self.named_when_off: list[str] = []
        self.reached_when_off: list[str] = []
        self.crash_at: int | None = None
        self.crossed = 0  # places where a crash may happen, so far
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._done: list[Done] = []
        self._lab: tuple[Lab, float] | None = None
        self.probes: dict[str, Probe] = {}
        self._seq = 0
        self.store = Store(self.path / "state.json")
        for index in range(1, self.initial + 1):
            self._boot(self.agent(f"agent-{index}"))
        self.start()

    # ------------------------------------------------------------------ the scaler's life

    def start(self) -> None:
        """Start the scaler, from its saved state."""
        state = self.store.load(self.clock.monotonic())
        self.controller = Controller(self.policy, "control", state)
        self.probes = {}
        self._done = []
        self._lab = None

    def run(self, seconds: float) -> None:
        """Let time pass; a scaler that crashes is started again at once."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            try:
                self.tick()
            except Crash:
                self.start()
            self.check()

    def run_until(self, condition: Callable[[], bool], limit_s: float = 120.0) -> float:
        """Let time pass until it is so; the seconds that took."""
        began = self.clock.monotonic()
        while not condition():
            assert self.clock.monotonic() - began < limit_s, self.describe()
            self.run(self.tick_s)
        return self.clock.monotonic() - began

    def tick(self) -> None:
        """One look and one step."""
        quiet = self.controller.scene is not None and not self.controller.busy
        self.clock.advance(self.quiet_s if quiet else self.tick_s)
        while self._due and self._due[0][0] <= self.clock.monotonic():
            heapq.heappop(self._due)[2]()
        self._ask_nodes()
        now = self.clock.monotonic()
        is_old = self._lab is None or now - self._lab[1] >= self.lab_every_s
        if is_old and not self.is_away:
            self._lab = (self.lab(), now)
        done, self._done = tuple(self._done), []
        lab, asked = self._lab or (None, 0.0)
        before = self.controller.state
        balancer = self.look_at_balancer()
        steps = self.controller.step(
            now,
            View(self.clock.now(), lab, asked, not self.is_away, balancer, now, self.probes, done),
        )
        if self.controller.state is not before:
            self._may_crash()
            self.store.save(self.controller.state, now)
        for step in steps:
            self._may_crash()
            self.steps.append(step)
            if isinstance(step, Publish):
                self.events.append(step.event)
            else:
                self._begin(step)

    def look_at_balancer(self) -> BalancerView:
        """While it reloads, old and new workers answer side by side: nothing is known."""
        view = self.balancer.poll()
        if view.confirmed:
            return view
        return dataclasses.replace(view, answered=None, backends=None)

    def _may_crash(self) -> None:
        self.crossed += 1
        if self.crossed == self.crash_at:
            raise Crash

    # ------------------------------------------------------------------ the world around it

    def agent(self, name: str) -> Agent:
        """That node, made if it is not there."""
        if name not in self.agents:
            self.agents[name] = Agent(name, int(name.rpartition("-")[2]))
        return self.agents[name]

    def lab(self) -> Lab:
        """What the server-manager tells."""
        control = Group("control", "control", "r1", 1, "manual", ("nginx", "scaler"), 1, 512)
        group = Group(
            "agent", "agent", "r1", self.desired, self.mode, ("metrics", "app"), 1, 512,
            self.scaling,
        )  # fmt: skip
        servers = tuple(self._server(a) for a in self.agents.values())
        balancer = Balancer("lb", "control", (Route("/", "agent"),))
        return Lab(
            "demo", "fake", self.lab_desired, self.lab_state, "2026-01-01T00:00:00Z",
            (control, group), (balancer,), servers, None, None, boot_limit_s=self.boot_limit_s,
        )  # fmt: skip

    def _server(self, agent: Agent) -> Server:
        port = 5000 + agent.index
        addresses = {"app": f"127.0.0.1:{port}", "metrics": f"127.0.0.1:{port + 100}"}
        is_mute = agent.state is PowerState.UNKNOWN  # then a driver may know no address either
        return Server(
            agent.name, "demo", "agent", "agent", "r1", agent.index, agent.wanted, agent.state,
            {} if is_mute else {"node": addresses}, 1, 512, agent.operation,
        )  # fmt: skip

    def _boot(self, agent: Agent) -> None:
        agent.wanted, agent.operation = Wanted.ON, None
        if agent.state is PowerState.PAUSED:
            agent.state = PowerState.RUNNING
        elif agent.state is not PowerState.RUNNING:
            agent.state, agent.draining, agent.health = PowerState.RUNNING, False, "ok"
            agent.booted = self.clock.monotonic() + self.boot_s

    def kill(self, name: str) -> None:
        """A fault: it is gone, and still wanted."""
        self.agents[name].state = PowerState.STOPPED

    def _begin(self, operation: Operation) -> None:
        seconds = self.power_s if isinstance(operation, Power) else 0.01
        due = self.clock.monotonic() + seconds
        if isinstance(operation, Power) and operation.to == "off":
            self._note_reached(operation.node)
        heapq.heappush(self._due, (due, next(self._number), lambda: self._end(operation)))

    def _note_reached(self, node: str) -> None:
        loaded = self.balancer.poll().backends or {}
        if any(b.node == node for members in loaded.values() for b in members):
            self.named_when_off.append(node)
        if node in self.balancer.reached() and self._is_up(self.agents[node]):
            self.reached_when_off.append(node)

    def _end(self, operation: Operation) -> None:
        problem = self.refuses(operation)
        try:
            if problem is None:
                self._carry_out(operation)
        except LabError as error:
            problem = error.message
        self._done.append(Done(operation, self.clock.monotonic(), problem))

    def _carry_out(self, operation: Operation) -> None:
        if isinstance(operation, TellDrain):
            agent = self.agents[operation.node]
            if not self._is_up(agent):
                raise Unreachable("no agent")
            agent.draining = operation.draining
            return
        if not isinstance(operation, SetCount | Power):
            self.balancer.submit(operation.routing)
            return
        if self.is_away:
            raise Unreachable("no server-manager")
        if self.lab_desired is not Desired.UP:
            raise Conflict("the lab is not up")
        if isinstance(operation, SetCount):
            assert self.scaling.min <= operation.count <= self.scaling.max
            self.desired = operation.count
        else:
            self._change_power(operation)

    def _change_power(self, operation: Power) -> None:
        agent = self.agent(operation.node)
        if operation.to == "on":
            self._boot(agent)
        elif operation.to == "standby":
            self._check_standby(agent)
            self._check_minimum(agent)
            if agent.state is not PowerState.PAUSED:
                self._boot(agent)
            agent.wanted = Wanted.STANDBY
        elif operation.to == "pause":
            if agent.wanted is not Wanted.STANDBY or agent.state is not PowerState.RUNNING:
                raise Conflict(f"{agent.name} is wanted {agent.wanted} and is {agent.state}")
            agent.state = PowerState.PAUSED
        else:
            self._check_minimum(agent)
            agent.wanted, agent.state = Wanted.OFF, PowerState.STOPPED

    def _check_standby(self, agent: Agent) -> None:
        others = [a for a in self.standbys if a is not agent and a.state is not PowerState.LOST]
        if len(others) >= self.scaling.standby:
            raise Conflict("group 'agent' has its standby nodes")

    def _check_minimum(self, agent: Agent) -> None:
        """The server-manager holds the minimum, whoever asks."""
        on = [
            a
            for a in self.agents.values()
            if a.wanted is Wanted.ON and a.state is not PowerState.LOST
        ]
        if agent.wanted is Wanted.ON and len(on) - (agent in on) < self.scaling.min:
            raise Conflict("group 'agent' has its minimum")

    def _is_up(self, agent: Agent) -> bool:
        up = agent.state is PowerState.RUNNING or agent.state is PowerState.UNKNOWN
        return up and self.clock.monotonic() >= agent.booted

    def _ask_nodes(self) -> None:
        now = self.clock.monotonic()
        self._seq += 1
        for agent in self.agents.values():
            health: ProbeHealth = agent.health if self._is_up(agent) else "refused"
            agent.failures = 0 if health == "ok" else agent.failures + 1
            before = self.probes.get(agent.name, Probe(agent.name, "unknown"))
            probe = dataclasses.replace(
                before, health=health, failures=agent.failures, asked_at=now, reason=health
            )
            if self._is_up(agent) and agent.has_metrics:
                probe = self._with_metrics(agent, probe, now)
            else:
                probe = dataclasses.replace(probe, metrics_problem="no answer")
            self.probes = {**self.probes, agent.name: probe}

    def _with_metrics(self, agent: Agent, probe: Probe, now: float) -> Probe:
        seq = probe.metrics.seq if agent.is_frozen and probe.metrics else self._seq
        metrics = AgentMetrics(
            agent.cpu, Memory(GIB, GIB // 2, agent.memory),
            "draining" if agent.draining else "active", agent.name, seq, 1.0, agent.in_flight,
        )  # fmt: skip
        is_new = probe.metrics is None or probe.metrics.seq != seq
        return dataclasses.replace(
            probe,
            metrics=metrics,
            metrics_asked_at=now,
            changed_at=now if is_new else probe.changed_at,
            metrics_problem="",
        )

    # ------------------------------------------------------------------ what must hold, always

    def check(self) -> None:
        """The laws that no fault and no crash may break."""
        taking = [
            a
            for a in self.agents.values()
            if a.state in (PowerState.RUNNING, PowerState.PAUSED, PowerState.UNKNOWN)
        ]
        assert len(taking) <= self.scaling.max + self.scaling.standby, self.describe()
        serving = [a for a in taking if a.wanted is not Wanted.STANDBY]
        assert len(serving) <= self.scaling.max, self.describe()
        reached = self.balancer.reached()
        assert not [a for a in self.standbys if a.name in reached], self.describe()
        assert not self.named_when_off, f"off while nginx names it: {self.named_when_off}"

    @property
    def routed(self) -> list[str]:
        """The nodes that nginx sends requests to."""
        backends = self.balancer.poll().backends or {}
        return sorted(b.node for members in backends.values() for b in members)

    @property
    def serving(self) -> list[str]:
        """Those of them that answer."""
        agents = self.agents
        return [n for n in self.routed if self._is_up(agents[n]) and agents[n].health == "ok"]

    @property
    def running(self) -> list[str]:
        """The nodes that run."""
        return sorted(a.name for a in self.agents.values() if a.state is PowerState.RUNNING)

    @property
    def standbys(self) -> list[Agent]:
        """The nodes that are wanted as standby."""
        return [a for a in self.agents.values() if a.wanted is Wanted.STANDBY]

    @property
    def ready(self) -> list[str]:
        """Those of them that are paused."""
        return sorted(a.name for a in self.standbys if a.state is PowerState.PAUSED)

    def operations(self, kind: type[T]) -> list[T]:
        """What the controller asked for, of one kind."""
        return [s for s in self.steps if isinstance(s, kind)]

    def changes(self, node: str) -> list[object]:
        """The membership changes told of a node."""
        told = [e for e in self.events if e.node == node and e.kind.value == "membership"]
        return [e.data["change"] for e in told]

    def describe(self) -> str:
        """For a failed test."""
        lines = [f"desired {self.desired}, removal {self.controller.state.removal}"]
        lines += [repr(a) for a in self.agents.values()]
        lines += [repr(s) for s in self.steps[-12:]]
        return "\n".join(lines)
