"""The scaler of the simulation: the real controller, runner, collector and hands on the loop."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from control_node import policies
from control_node.balancer.fake import FakeBalancer
from control_node.scaler.collector import Collector
from control_node.scaler.controller import Controller
from control_node.scaler.desk import Desk
from control_node.scaler.fetch import Reply
from control_node.scaler.hands import Hands, Wishes
from control_node.scaler.runner import Runner
from control_node.scaler.state import State, Store
from control_node.scaler.status import scaler_status
from control_node.scaler.types import Operation, Power, SetCount, Submit, TellDrain
from labcore.codec import decode, encode
from labcore.errors import LabError, Unreachable
from labcore.wire.event import Event
from tests.simulation.deaths import Crossings
from tests.simulation.hosting import Client
from tests.simulation.loop import Killed, Loop, Process
from tests.simulation.machines import Agents

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


class SimFetcher:
    """control_node.scaler.fetch.Fetcher without sockets: agents answer a little later."""

    def __init__(self, scaler: Scaler) -> None:
        self.open_asks = 0
        self._scaler = scaler
        self._asking: dict[Hashable, object] = {}

    def is_asking(self, key: Hashable) -> bool:
        """See Fetcher."""
        return key in self._asking

    def get(self, key: Hashable, address: str, path: str, done: Callable[[Reply], None]) -> None:
        """See Fetcher."""
        agents, loop = self._scaler.agents, self._scaler.loop
        node = agents.driver.node_at(agents.lab, address)
        reply = Reply(problem="refused", reason="nothing listens: connection refused")
        if node is not None:
            reply = agents.metrics(node) if path == "/metrics" else agents.health(node)
        token = self._asking[key] = object()

        def answer() -> None:
            if self._asking.get(key) is token:
                del self._asking[key]
                done(reply)

        loop.later(2.0 if reply.problem == "timeout" else 0.005, answer)

    def forget(self, key: Hashable) -> None:
        """See Fetcher."""
        self._asking.pop(key, None)

    def close(self) -> None:
        """See Fetcher."""
        self._asking.clear()


class SimStore(Store):
    """A Store whose disk may be full, and whose owner may die before and after each write."""

    def __init__(self, crossing: Callable[[str], None], fired: Counter[str]) -> None:
        self.full = False
        self._fired = fired
        self._crossing = crossing
        self.saved: State | None = None

    def load(self, now: float) -> State:
        """See Store."""
        return State() if self.saved is None else decode(State, encode(self.saved))

    def save(self, state: State, now: float) -> None:
        """See Store. What is kept is made JSON when it is loaded again: few are."""
        self._crossing("before its state is saved")
        if self.full:
            self._fired["the scaler's disk is full"] += 1
            raise OSError(28, "No space left on device")
        self.saved = state
        self._crossing("after its state is saved")


class SimRunner(Runner):
    """The real runner; what it awaits of threads is called at once, in a task of the loop."""

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return call()

    def ask_lab(self, hands: Hands) -> None:
        """One question to the server-manager."""
        _drive(self._ask_lab(hands))

    def ask_balancer(self, hands: Hands) -> None:
        """One look at the balancer."""
        _drive(self._ask_balancer(hands))


def _drive(coroutine: object) -> None:
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        return
    raise AssertionError("it waits for something")


class SimHands(Hands):
    """The real hands; each operation is a task, and an agent is told without HTTP."""

    def __init__(self, scaler: Scaler, client: Client, wishes: Wishes, runner: Runner) -> None:
        super().__init__(
            client, scaler.balancer, wishes, "agent-token", scaler.loop.clock, runner.report
        )
        self._scaler = scaler
        self._runs_in = scaler.process

    def begin(self, operation: Operation) -> None:
        """See Hands."""
        scaler = self._scaler
        scaler.crossings.cross(f"before {_kind(operation)}")
        scaler.began(operation)
        delay = scaler.rng.uniform(0.0, 0.1)
        scaler.loop.spawn(self._runs_in, lambda: self._run(operation), delay=delay)

    def _run(self, operation: Operation) -> None:
        super()._run(operation)
        self._scaler.ended(operation)

    def _carry_out(self, operation: Operation) -> None:
        if isinstance(operation, TellDrain):
            agents = self._scaler.agents
            if not agents.hear_drain(operation.node, operation.draining):
                raise Unreachable("the agent does not answer")
        else:
            super()._carry_out(operation)
        self._scaler.crossings.cross(f"after {_kind(operation)}")


def _kind(operation: Operation) -> str:
    if isinstance(operation, Power):
        return f"power {operation.to}"
    if isinstance(operation, Submit):
        return "route"
    if isinstance(operation, TellDrain):
        return "drain" if operation.draining else "undrain"
    return "count"


def _name(operation: Operation) -> str:
    if isinstance(operation, Submit):
        members = [b.node for group in operation.routing.backends.values() for b in group]
        return f"{_kind(operation)} {' '.join(members)}"
    if isinstance(operation, SetCount):
        return f"{_kind(operation)} {operation.count}"
    return f"{_kind(operation)} {operation.node}"


class SimPoster:
    """hands.Poster on the loop."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._loop = scaler.loop
        self._process = scaler.process
        self._client = scaler.client
        self._waiting: deque[Event] = deque()
        self._busy = False

    def post(self, event: Event) -> None:
        """See Poster."""
        self._scaler.on_post(event)
        self._waiting.append(event)
        if not self._busy:
            self._busy = True
            self._loop.spawn(self._process, self._send_all)

    def _send_all(self) -> None:
        while self._waiting:
            try:
                self._client.post_event(self._waiting[0])
            except Unreachable:
                self._loop.sleep(1.0)
                continue
            except LabError:
                pass  # refused for good
            self._waiting.popleft()
        self._busy = False


class Pace:
    """How often the scaler looks."""

    def __init__(self, rng: random.Random) -> None:
        self.busy_s = rng.choice((0.2, 0.3, 0.5))
        self.quiet_s = 1.0
        self.lab_s = rng.choice((0.4, 0.8))


class Scaler:
    """The scaler's process in the control node, over its deaths and starts."""

    def __init__(
        self,
        lab: str,
        loop: Loop,
        rng: random.Random,
        client: Client,
        balancer: FakeBalancer,
        fired: Counter[str],
    ) -> None:
        self.lab = lab
        self.loop = loop
        self.rng = rng
        self.client = client
        self.balancer = balancer
        self.agents: Agents
        self.pace = Pace(rng)
        self.note: Callable[[str], None] = lambda text: None
        self.may_start: Callable[[], bool] = lambda: True
        self.on_start: Callable[[], None] = lambda: None
        self.on_step: Callable[[], None] = lambda: None
        self.on_begin: Callable[[Operation], None] = lambda operation: None
        self.on_post: Callable[[Event], None] = lambda event: None
        self.on_end: Callable[[Operation], None] = lambda operation: None
        self.last_act = loop.now
        self.crossings = Crossings("the scaler", self._die, fired)
        self.store = SimStore(self.crossings.cross, fired)
        self.process: Process
        self.controller: Controller
        self.desk: Desk
        self._next = 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return hasattr(self, "process") and self.process.alive

    def start(self) -> None:
        """Start it from what it saved; nothing happens if it runs, or its node does not."""
        if self.alive or not self.may_start():
            return
        loop, clock = self.loop, self.loop.clock
        self.process = loop.process("the scaler")
        self.on_start()
        self.controller = Controller(policies, "control", self.store.load(loop.now))
        runner = SimRunner(self.lab, self.controller, self.store, clock)
        wishes = Wishes(self.lab, self.client, clock)
        hands = SimHands(self, self.client, wishes, runner)
        poster = SimPoster(self)
        status = scaler_status(self.lab, clock.now(), self.controller)
        self.desk = Desk(wishes, status, wake=runner.wake, reset=runner.reset_breaker)
        collector = Collector(clock, lambda: None, SimFetcher(self))
        self._follow_lab(runner, hands)
        self._tick(runner, collector, hands, poster)

    def kill(self) -> None:
        """Let it die now; nginx and the agents go on."""
        self.crossings.forget()
        if self.alive:
            self.loop.kill(self.process)

    def _die(self, where: str) -> None:
        self.note(f"the scaler dies {where}")
        self.kill()
        self.loop.later(self.rng.uniform(0.1, 3.0), self.start)

    def began(self, operation: Operation) -> None:
        """An operation is under way."""
        self.last_act = self.loop.now
        self.note(f"scaler: {_name(operation)}")
        self.on_begin(operation)

    def ended(self, operation: Operation) -> None:
        """It has ended, whatever came of it."""
        self.on_end(operation)

    def _follow_lab(self, runner: SimRunner, hands: Hands) -> None:
        process = self.process

        def ask() -> None:
            runner.ask_lab(hands)
            self.loop.later(self.pace.lab_s if self.controller.busy else self.pace.quiet_s, look)

        def look() -> None:
            if not process.alive:
                return
            if self.client.answers_at_once:
                ask()
            else:
                self.loop.spawn(process, ask)

        self.loop.later(0.0, look)

    def _tick(
        self, runner: SimRunner, collector: Collector, hands: Hands, poster: SimPoster
    ) -> None:
        process = self.process

        def tick() -> None:
            if not process.alive:
                return
            if self.rng.random() < 0.8:
                runner.ask_balancer(hands)
            try:
                moved = runner._step(collector, hands, poster, self.desk)  # type: ignore[arg-type]
            except Killed:
                return
            self.on_step()
            busy = self.controller.busy
            pause = 0.1 if moved else self.pace.busy_s if busy else self.pace.quiet_s
            self.loop.later(pause, tick)

        self.loop.later(0.05, tick)
