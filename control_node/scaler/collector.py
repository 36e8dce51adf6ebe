"""Asks every node again and again: is your app healthy, and what do your metrics say?"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from control_node.scaler.fetch import Asker, Fetcher, Reply
from control_node.scaler.sampling import is_due
from control_node.scaler.types import Probe, ProbeHealth
from labcore import services
from labcore.clock import Clock
from labcore.codec import decode
from labcore.errors import LabError
from labcore.wire.metrics import AgentMetrics

METRICS_PATH = "/metrics"
HISTORY = 30

Question = Literal["health", "metrics"]


@dataclass(frozen=True)
class Target:
    """One node and where it is asked; None: it does not offer that."""

    node: str
    app: str | None
    metrics: str | None


class Collector:
    """Holds the latest `Probe` of each node. For one event loop; `changed` is called when a node's
    health is another than before, or a node in `urgent` answered. Without a `fetcher` it asks over
    HTTP; make it inside the loop then."""

    def __init__(
        self, clock: Clock, changed: Callable[[], None], fetcher: Asker | None = None
    ) -> None:
        self.probes: dict[str, Probe] = {}
        self.urgent: frozenset[str] = frozenset()
        self._clock = clock
        self._changed = changed
        self._fetcher: Asker = Fetcher() if fetcher is None else fetcher
        self._asked: dict[tuple[str, Question], float] = {}
        self._health_path = services.APP.health_path or "/"

    def ask(self, targets: Iterable[Target], *, every_s: float, urgent_s: float) -> None:
        """Ask each target once in `every_s` (urgent ones: `urgent_s`), at a moment of its own.

        Returns at once; answers change `probes` as they come. A question that has no answer yet
        is not asked again.
        """
        now = self._clock.monotonic()
        for target in targets:
            pause = urgent_s if target.node in self.urgent else every_s
            if target.app is not None:
                self._question(target.node, "health", target.app, now, pause)
            if target.metrics is not None:
                self._question(target.node, "metrics", target.metrics, now, pause)

    async def sweep(self, targets: Iterable[Target]) -> None:
        """Ask all targets now and return when each has answered or failed (at most ~2.5 s)."""
        self.ask(targets, every_s=0.0, urgent_s=0.0)
        while self._fetcher.open_asks:
            await asyncio.sleep(0.01)

    def keep_only(self, nodes: frozenset[str]) -> None:
        """Forget all other nodes."""
        for node in [name for name in self.probes if name not in nodes]:
            del self.probes[node]
        for key in [key for key in self._asked if key[0] not in nodes]:
            del self._asked[key]
            self._fetcher.forget(key)

    def close(self) -> None:
        """Close every connection."""
        self._fetcher.close()

    def _question(
        self, node: str, question: Question, address: str, now: float, pause: float
    ) -> None:
        key = (node, question)
        last = self._asked.get(key, -math.inf)
        if self._fetcher.is_asking(key) or not is_due(node, last, now, pause):
            return
        self._asked[key] = now
        path = self._health_path if question == "health" else METRICS_PATH
        self._fetcher.get(key, address, path, lambda reply: self._answered(key, now, reply))

    def _answered(self, key: tuple[str, Question], asked: float, reply: Reply) -> None:
        node, question = key
        if key not in self._asked:
            return  # forgotten meanwhile
        before = self.probes.get(node)
        if question == "health":
            after = with_health(node, before, asked, reply)
        else:
            after = with_metrics(node, before, asked, reply)
        self.probes[node] = after
        if before is None or before.health != after.health or node in self.urgent:
            self._changed()


def with_health(node: str, before: Probe | None, asked: float, reply: Reply) -> Probe:
    """The probe after an answer of the app's health path. Pure."""
    health: ProbeHealth = "ok"
    reason = ""
    if reply.problem is not None:
        health = "bad" if reply.problem == "broken" else reply.problem
        reason = f"its health check: {reply.reason}"
    elif not 200 <= reply.status < 300:
        health, reason = "bad", f"its health check answers {reply.status}"
    failures = 0 if health == "ok" else (before.failures if before else 0) + 1
    return dataclasses.replace(
        before or Probe(node, health),
        health=health,
        failures=failures,
        asked_at=asked,
        reason=reason,
    )


def with_metrics(node: str, before: Probe | None, asked: float, reply: Reply) -> Probe:
    """The probe after an answer of the metrics path. Pure.

    A sample that makes no sense is none: the last good one stays, and grows old.
    """
    probe = before or Probe(node, "unknown")
    sample, problem = read_sample(node, reply)
    if sample is None:
        return dataclasses.replace(probe, metrics_problem=problem)
    if probe.metrics is not None and probe.metrics.seq == sample.seq:
        return dataclasses.replace(
            probe, metrics=sample, metrics_asked_at=asked, metrics_problem=""
        )
    return dataclasses.replace(
        probe,
        metrics=sample,
        metrics_asked_at=asked,
        changed_at=asked,
        metrics_problem="",
        cpu_history=(*probe.cpu_history, sample.cpu)[-HISTORY:],
    )


def read_sample(node: str, reply: Reply) -> tuple[AgentMetrics | None, str]:
    """The sample in an answer, or None and why it has none: bad JSON, NaN, out of range."""
    if reply.problem is not None:
        return None, reply.reason
    if reply.status != 200:
        return None, f"its metrics answer {reply.status}"
    try:
        sample = decode(AgentMetrics, json.loads(reply.body.decode()))
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    except LabError as error:
        return None, error.message
    problem = _nonsense(node, sample)
    return (None, problem) if problem else (sample, "")


def _nonsense(node: str, sample: AgentMetrics) -> str:
    memory = sample.memory
    checks = (
        (sample.node == node, f"it is {sample.node!r}, not {node}"),
        (0.0 <= sample.cpu <= 100.0, f"cpu {sample.cpu:g} %"),
        (0.0 <= memory.percent <= 100.0, f"memory {memory.percent:g} %"),
        (memory.available >= 0 and memory.total >= 0, "negative memory"),
        (sample.seq >= 0 and sample.uptime_s >= 0, "a negative seq or uptime"),
        (sample.in_flight is None or sample.in_flight >= 0, "negative in_flight"),
    )
    return next((text for ok, text in checks if not ok), "")
