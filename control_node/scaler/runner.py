"""Drives the controller in real time: gathers the view, saves the state, has the rest done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from control_node.balancer.model import View as BalancerView
from control_node.scaler.collector import Collector, Target
from control_node.scaler.controller import FRESH_S, Controller
from control_node.scaler.desk import Desk
from control_node.scaler.hands import Hands, Poster
from control_node.scaler.roster import UP
from control_node.scaler.rotation import APP, METRICS, address_of
from control_node.scaler.sampling import FULL_EVERY_S, health_every_s
from control_node.scaler.state import Store
from control_node.scaler.status import scaler_status
from control_node.scaler.types import Done, Publish, Step, View
from labcore.clock import Clock
from labcore.errors import LabError
from labcore.wire.lab import Lab

log = logging.getLogger(__name__)
T = TypeVar("T")

QUIET_S = 1.0  # between two looks while nothing happens
BUSY_S = 0.1
LAB_BUSY_S = 0.3
URGENT_S = 0.05  # between two questions to a node that something waits for
LEAST_GAP_S = 0.02  # however much happens
CLOSE_S = 2.0


@dataclass
class _Seen:
    """The latest answers. Written and read by the loop only."""

    lab: Lab | None = None
    lab_asked: float = -math.inf
    reachable: bool = False
    balancer: BalancerView = field(default_factory=lambda: BalancerView(None, None, None))
    balancer_asked: float = -math.inf
    done: list[Done] = field(default_factory=list)


class Runner:
    """One lab's scaler at work. `run` is its whole life; `wake`, `report`, `reset_breaker` and
    `stop` may be called from any thread."""

    def __init__(self, lab: str, controller: Controller, store: Store, clock: Clock) -> None:
        self._lab = lab
        self._controller = controller
        self._store = store
        self._clock = clock
        self._seen = _Seen()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._look_at_lab = asyncio.Event()
        self._look_at_balancer = asyncio.Event()
        self._stop = asyncio.Event()

    def wake(self) -> None:
        """Look at the lab again, at once."""
        self._call(self._look_at_lab.set)

    def reset_breaker(self, group: str) -> None:
        """Make nodes of that group again at once."""
        self._call(lambda: self._controller.reset_breaker(group))
        self._call(self._wake.set)

    def stop(self) -> None:
        """Let `run` return."""
        self._call(self._stop.set)
        self._call(self._wake.set)

    def report(self, done: Done) -> None:
        """An operation has ended."""
        self._call(lambda: self._ended(done))

    def _call(self, callback: Callable[[], None]) -> None:
        if self._loop is None:
            callback()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
                self._loop.call_soon_threadsafe(callback)

    def _ended(self, done: Done) -> None:
        self._seen.done.append(done)
        self._look_at_lab.set()
        self._look_at_balancer.set()
        self._wake.set()

    async def run(self, hands: Hands, poster: Poster, desk: Desk) -> None:
        """Scale until `stop`."""
        self._loop = asyncio.get_running_loop()
        collector = Collector(self._clock, self._wake.set)
        await self._ask_lab(hands)
        await self._ask_balancer(hands)
        followers = [
            asyncio.create_task(self._follow_lab(hands)),
            asyncio.create_task(self._follow_balancer(hands)),
        ]
        try:
            while not self._stop.is_set():
                began = self._clock.monotonic()
                moved = self._step(collector, hands, poster, desk)
                took = self._clock.monotonic() - began
                await asyncio.sleep(max(LEAST_GAP_S, 2 * took))
                if not moved:
                    pause_s = BUSY_S if self._controller.busy else QUIET_S
                    await _wait(self._wake, min(pause_s, self._controller.rest_s))
        finally:
            for task in followers:
                task.cancel()
            collector.close()
            hands.close()
            poster.close(CLOSE_S)

    def _step(self, collector: Collector, hands: Hands, poster: Poster, desk: Desk) -> bool:
        """One step; whether it changed what is remembered, so that there is a next one to do."""
        self._wake.clear()
        now, seen = self._clock.monotonic(), self._seen
        done, seen.done = tuple(seen.done), []
        before = self._controller.state
        steps = self._controller.step(
            now,
            View(
                at=self._clock.now(),
                lab=seen.lab,
                lab_asked=seen.lab_asked,
                reachable=seen.reachable,
                balancer=seen.balancer,
                balancer_asked=seen.balancer_asked,
                probes=dict(collector.probes),
                done=done,
            ),
        )
        moved = self._controller.state is not before
        problem = self._save(now) if moved else None
        self._carry_out(steps, problem, hands, poster)
        self._ask_nodes(collector)
        desk.show(
            scaler_status(self._lab, self._clock.now(), self._controller),
            self._controller.decisions,
        )
        return moved and problem is None

    def _save(self, now: float) -> str | None:
        """Write the state; why that failed."""
        try:
            self._store.save(self._controller.state, now)
        except OSError as error:
            log.error("the state cannot be saved: %s", error)
            return f"the state cannot be saved: {error}"
        return None

    def _carry_out(
        self, steps: list[Step], problem: str | None, hands: Hands, poster: Poster
    ) -> None:
        for step in steps:
            if isinstance(step, Publish):
                poster.post(step.event)
            elif problem is None:
                hands.begin(step)
            else:  # nothing is done that a crash would make us forget
                hands.refuse(step, problem)

    def _ask_nodes(self, collector: Collector) -> None:
        scene = self._controller.scene
        if scene is None:
            return
        servers = [s for roster in scene.rosters for s in roster.servers if s.state in UP]
        collector.keep_only(frozenset(s.name for s in servers))
        collector.urgent = urgent = self._controller.urgent
        apps = [Target(s.name, address_of(s, APP), None) for s in servers]
        collector.ask(apps, every_s=health_every_s(len(apps)), urgent_s=URGENT_S)
        panel = urgent.union(*(roster.panel for roster in scene.rosters))
        metrics = [Target(s.name, None, address_of(s, METRICS)) for s in servers if s.name in panel]
        collector.ask(metrics, every_s=FULL_EVERY_S, urgent_s=URGENT_S)
        deciding = self._controller.deciding
        fresh = [target for target in metrics if target.node in deciding]
        collector.ask(fresh, every_s=FRESH_S, urgent_s=URGENT_S)

    async def _follow_lab(self, hands: Hands) -> None:
        while True:
            await _wait(self._look_at_lab, LAB_BUSY_S if self._controller.busy else QUIET_S)
            self._look_at_lab.clear()
            await self._ask_lab(hands)

    async def _ask_lab(self, hands: Hands) -> None:
        asked = self._clock.monotonic()
        try:
            lab = await self._in(hands.quick, lambda: hands.manager.lab(self._lab))
        except LabError as error:
            if self._seen.reachable:
                log.warning("routing goes on without the server-manager: %s", error.message)
            self._seen.reachable = False
        else:
            changed = lab != self._seen.lab or not self._seen.reachable
            self._seen.lab = lab if changed else self._seen.lab
            self._seen.lab_asked = asked
            self._seen.reachable = True
        self._wake.set()

    async def _follow_balancer(self, hands: Hands) -> None:
        while True:
            await _wait(self._look_at_balancer, BUSY_S if self._controller.busy else QUIET_S)
            self._look_at_balancer.clear()
            await self._ask_balancer(hands)

    async def _ask_balancer(self, hands: Hands) -> None:
        asked = self._clock.monotonic()
        view = await self._in(hands.nginx, hands.balancer.poll)
        changed = view != self._seen.balancer
        self._seen.balancer, self._seen.balancer_asked = view, asked
        if changed or self._controller.busy:
            self._wake.set()

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    """Return when `event` is set, after `limit_s` at the latest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
