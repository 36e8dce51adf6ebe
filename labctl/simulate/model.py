"""A group of nodes in virtual time, scaled by a policy: the scaler's own `decide` and `remember`.

Demand is fluid: it is spread evenly over the nodes that serve, and what is above 100 % of them is
lost. A decision at a tick sees the metrics and the nodes of the tick before; a node that it adds
serves after `boot_s`, one that it removes is gone at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from control_node.policies import Action, History, NodeSample, Observation, decide, remember
from labcore.wire.lab import Scaling
from labctl.simulate.trace import Demand

BASE_MEMORY = 20.0  # per cent that a node needs to run at all
MEMORY_OF_LOAD = 0.7  # per cent of memory for each per cent of CPU


@dataclass(frozen=True)
class World:
    """What does not depend on the policy."""

    boot_s: float = 60.0
    noise: float = 0.05  # standard deviation of measured CPU, relative
    seed: int = 1
    target_percent: float = 70.0  # a group above this is too small


@dataclass
class Run:
    """What happened, tick by tick. A tick lasts `interval_s`."""

    interval_s: float
    serving: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)  # serving or booting: what is paid for
    changes: list[tuple[float, Action]] = field(default_factory=list)


class Group:
    """The nodes of the simulated group."""

    def __init__(self, count: int, boot_s: float) -> None:
        self.serving = count
        self._boot_s = boot_s
        self._ready: list[float] = []  # when each booting node will serve, oldest first

    @property
    def booting(self) -> int:
        """Nodes that are paid for and do not serve yet."""
        return len(self._ready)

    @property
    def count(self) -> int:
        """All nodes there are."""
        return self.serving + len(self._ready)

    def resize(self, count: int, now: float) -> None:
        """Begin to boot, or take away, until there are `count`. What boots goes first."""
        while self.count < count:
            self._ready.append(now + self._boot_s)
        while self.count > count and self._ready:
            self._ready.pop()
        self.serving = min(self.serving, count)

    def boot(self, now: float) -> None:
        """Let those serve whose time has come."""
        while self._ready and self._ready[0] <= now:
            self._ready.pop(0)
            self.serving += 1


def simulate(scaling: Scaling, demand: Demand, world: World) -> Run:
    """Run one policy against one demand, from `scaling.min` nodes. The same seed, the same run."""
    run = Run(scaling.interval_s)
    noise = random.Random(world.seed)  # noqa: S311 - a repeatable experiment, no secret
    group = Group(scaling.min, world.boot_s)
    history = History()
    seen: Observation | None = None
    for tick, work in enumerate(demand.work):
        now = tick * scaling.interval_s
        if seen is not None:
            verdict = decide(now, history, seen, scaling)
            history = remember(now, history, seen, verdict, scaling)
            if verdict.action is not Action.HOLD:
                run.changes.append((now, verdict.action))
                group.resize(verdict.count, now)
        group.boot(now)
        run.serving.append(group.serving)
        run.running.append(group.count)
        load = _measured(work, group.serving, noise.gauss(1.0, world.noise))
        memory = BASE_MEMORY + MEMORY_OF_LOAD * load
        samples = (NodeSample("agent", load, memory),) * group.serving  # all alike
        seen = Observation(samples, group.count, group.booting, at=demand.at[tick])
    return run


def _measured(work: float, serving: int, error: float) -> float:
    if not serving:
        return 0.0
    return max(0.0, min(100.0, min(100.0, 100.0 * work / serving) * error))
