"""How long a scale-out takes from the deciding sample to the first answer, and a removal from the
wish to its end: the real scaler, nginx and agents (driver `local`), cold and with a standby node.

The policy always wants one node more, so that letting it decide (mode auto) is all it takes; what
is measured begins when the oldest of the samples that were decided upon was asked for. While nodes
are removed, clients with idle keep-alive connections are there, as they are in a browser.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import sys
import tempfile
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from labcore.clock import SystemClock, parse_rfc3339
from labcore.errors import TimedOut, Unreachable
from labcore.http_client import call_json
from labcore.manager_client import ManagerClient
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Wanted
from labctl.clients.scaler import ScalerClient
from tests.e2e.harness import Hands

CLOCK = SystemClock()
IDLE_CLIENTS = 20
REQUEST_S = 2.0  # the longest request while a node is removed under load
LIMIT_S = 30.0
SETTINGS = (
    "scaling.mode=manual",
    "scaling.max=3",
    "scaling.interval_s=1",
    "scaling.cooldown_out_s=0",
    "scaling.cooldown_in_s=0",
    "scaling.out.memory_percent=1",
    "scaling.in.memory_percent=0.5",
)
COLD_BAR_S, STANDBY_BAR_S, REMOVAL_BAR_S = 2.0, 1.0, 1.5


def run(*, full: bool) -> list[Row]:
    """Bars are on the 95th percentile; `full` repeats thirty times, not eight."""
    repeats = 30 if full else 8
    with tempfile.TemporaryDirectory() as home:
        hands = Hands(Path(home))
        try:
            return [
                *measured(hands, "cold", 0, repeats, COLD_BAR_S),
                *measured(hands, "standby", 1, repeats, STANDBY_BAR_S),
            ]
        finally:
            hands.try_("server", "stop")


def measured(hands: Hands, name: str, standby: int, repeats: int, bar: float) -> list[Row]:
    """The rows of one lab on the driver of `hands`; `bar` is that of a scale-out."""
    sets = (*SETTINGS, f"scaling.standby={standby}")
    words = [word for one in sets for word in ("--set", one)]
    hands.do("up", "--lab", name, "--driver", hands.driver, *words)
    try:
        lab = Bench.of(hands, name, standby)
        for busy_s in (0.0, REQUEST_S):
            for _ in range(repeats):
                lab.rest()
                lab.scale_out()
                lab.rest()
                lab.scale_in(busy_s)
    finally:
        hands.do("destroy", "--lab", name, "--yes")
    return [
        *_rows(f"{name}: sample to first answer", lab.outs, bar),
        *_rows(f"{name}: removal, idle clients", lab.ins[0.0], REMOVAL_BAR_S),
        *_rows(
            f"{name}: removal, requests of {REQUEST_S:g} s",
            lab.ins[REQUEST_S],
            REQUEST_S + REMOVAL_BAR_S,
        ),
    ]


def _rows(name: str, seconds: list[float], bar: float) -> list[Row]:
    sys.stderr.write(f"{name}: {', '.join(f'{s:.2f}' for s in seconds)} s\n")
    p95 = sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.95))]
    median = statistics.median(seconds)
    return [Row(f"{name}, median", median, "s"), at_most(f"{name}, p95", p95, "s", bar)]


@dataclass
class Bench:
    """One lab of two or three nodes, and what was measured of it."""

    name: str
    manager: ManagerClient
    scaler: ScalerClient
    balancer: str  # host:port
    standby: int
    outs: list[float] = field(default_factory=list)
    ins: dict[float, list[float]] = field(default_factory=lambda: {0.0: [], REQUEST_S: []})
    position: int = 0
    past: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @classmethod
    def of(cls, hands: Hands, name: str, standby: int) -> Bench:
        """The clients of a lab that is up."""
        status = hands.status(name)
        secret = hands.state / "labs" / name / "secrets" / "scaler-api-token"
        return cls(
            name,
            ManagerClient(status["server_manager"]["url"], hands.token()),
            ScalerClient(status["scaler"]["url"], secret.read_text().strip()),
            urllib.parse.urlsplit(status["load_balancer"]["url"]).netloc,
            standby,
        )

    def rest(self) -> None:
        """Wait until nothing is under way and the standby node, if there is one, is ready."""

        def probe() -> None:
            nodes = self.scaler.status().nodes
            moving = [n.node for n in nodes if n.phase not in ("serving", "standby", "off")]
            if moving or sum(n.phase == "standby" for n in nodes) != self.standby:
                raise NotYet(str([(n.node, n.phase) for n in nodes]))

        wait_until(probe, name="the lab to rest", limit_s=LIMIT_S, clock=CLOCK)
        self._events(lambda event: False)  # skip what is past

    def scale_out(self) -> None:
        """Let the policy decide; until another node has answered through nginx."""
        before = self._backends()
        answered: dict[str, datetime] = {}
        self.scaler.set_mode("auto")
        wait_until(
            lambda: self._answer(before, answered),
            name="another node to answer",
            limit_s=LIMIT_S,
            clock=CLOCK,
            interval_s=0.0005,  # 10 ms in the end
        )
        (at,) = answered.values()
        decision = self._wait_event(
            lambda e: e.kind is EventKind.DECISION and e.data["action"] == "out"
        )
        age_s = decision.data["inputs"]["sample_age_s"]  # type: ignore[index]
        self.outs.append((at - parse_rfc3339(decision.at)).total_seconds() + age_s)

    def _backends(self) -> frozenset[str]:
        return frozenset(n for m in self.scaler.status().balancer.backends.values() for n in m)

    def _answer(self, before: frozenset[str], answered: dict[str, datetime]) -> None:
        connection = http.client.HTTPConnection(self.balancer, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
        node = response.getheader("X-Labctl-Backend") or ""
        if response.status != 200 or node in before:
            raise NotYet(f"{response.status} by {node}")
        answered[node] = CLOCK.now()

    def scale_in(self, busy_s: float) -> None:
        """Wish for one node fewer, beside idle clients and requests of `busy_s` at every node."""
        with self._idle_clients(), self._requests(busy_s):
            began = CLOCK.now()
            self.scaler.scale(2)
            removed = self._wait_event(
                lambda e: e.kind is EventKind.MEMBERSHIP and e.data["change"] == "removed"
            )
        self.ins[busy_s].append((parse_rfc3339(removed.at) - began).total_seconds())

    @contextlib.contextmanager
    def _idle_clients(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE_CLIENTS):
                connection = http.client.HTTPConnection(self.balancer, timeout=5)
                stack.enter_context(contextlib.closing(connection))
                connection.request("GET", "/")
                connection.getresponse().read()
            yield

    @contextlib.contextmanager
    def _requests(self, seconds: float) -> Iterator[None]:
        """One request of so many seconds at every node, begun before and ended after."""
        url = f"http://{self.balancer}/slow?s={seconds:g}"
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                call_json("GET", url, timeout_s=seconds + 5)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3 if seconds else 0)]
        for thread in threads:
            thread.start()
        if threads:
            self._wait_busy()
        yield
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _wait_busy(self) -> None:
        agents = self.manager.lab(self.name).members("agent")
        serving = [s for s in agents if s.wanted is Wanted.ON]
        urls = [f"http://{s.endpoints['host']['metrics']}/metrics" for s in serving]

        def probe() -> None:
            try:  # a node joins by its app's health; its metrics may still be booting
                idle = [url for url in urls if not call_json("GET", url)["in_flight"]]  # type: ignore[index]
            except Unreachable as error:
                raise NotYet(error.message) from error
            if idle:
                raise NotYet(str(idle))

        wait_until(
            probe, name="every node to be busy", limit_s=REQUEST_S, clock=CLOCK, interval_s=0.01
        )

    def _wait_event(self, is_it: Callable[[Event], bool]) -> Event:
        deadline = CLOCK.monotonic() + LIMIT_S
        while CLOCK.monotonic() < deadline:
            if found := self._events(is_it):
                return found
        raise TimedOut(f"no such event; the last: {'; '.join(self.past)}")

    def _events(self, is_it: Callable[[Event], bool]) -> Event | None:
        """The first new event that is it; all others are forgotten."""
        while page := self.manager.events(self.name, after=self.position, wait_s=0.2):
            for event in page:
                self.position = event.seq
                self.past.append(f"{event.at} {event.message}")
                if is_it(event):
                    return event
        return None
