"""What a rule looks at: one observation in figures, beside what is remembered of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from control_node.policies.types import History, NodeSample, Observation
from labcore.wire.lab import Scaling

CPU = "cpu_percent"
MEMORY = "memory_percent"
METRICS = (CPU, MEMORY)
LABELS = {CPU: "CPU", MEMORY: "memory"}


class Figures(NamedTuple):
    """What the samples of one observation come to."""

    averages: Mapping[str, float]  # metric name -> mean over the nodes that gave it
    missing: tuple[str, ...]  # nodes that did not give every metric
    in_flight: int  # requests being worked on, as far as the nodes say


class Situation(NamedTuple):
    """The input of a rule. (A tuple, as one is made for every decision of a simulation.)"""

    now: float
    scaling: Scaling
    history: History
    observation: Observation
    averages: Mapping[str, float]  # see Figures
    missing: tuple[str, ...]
    in_flight: int
    counted: int  # nodes that the averages stand for: the serving ones, asked or not
    desired: int  # the count that is wished for now
    last_out_at: float | None  # of the last change outwards, by whomever it was made
    last_in_at: float | None


@dataclass(frozen=True)
class Proposal:
    """What a rule wants before anybody objects. `vetoes` are its own (not yet, not now).

    `wish` is what its formula alone gave, where the rule itself is slower than that; `demand` what
    it reckoned with, if it wants to know at the next ones.
    """

    count: int
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...] = ()
    wish: int | None = None
    demand: float | None = None


Rule = Callable[[Situation], Proposal]


def look(now: float, history: History, observation: Observation, scaling: Scaling) -> Situation:
    """The situation of one observation."""
    return Situation(
        now,
        scaling,
        history,
        observation,
        *figures(observation.samples),
        len(observation.samples) + observation.others,
        observation.desired,
        *changes(now, history, observation),
    )


def figures(samples: tuple[NodeSample, ...]) -> Figures:
    """Means, and what is missing; a metric that no node gave has no mean."""
    cpu = memory = 0.0
    cpus = memories = working = 0
    missing = []
    for sample in samples:
        if sample.cpu_percent is not None:
            cpu += sample.cpu_percent
            cpus += 1
        if sample.memory_percent is not None:
            memory += sample.memory_percent
            memories += 1
        if sample.cpu_percent is None or sample.memory_percent is None:
            missing.append(sample.node)
        working += sample.in_flight or 0
    averages = {CPU: cpu / cpus} if cpus else {}
    if memories:
        averages[MEMORY] = memory / memories
    return Figures(averages, tuple(missing), working)


def if_idle(seen: Situation) -> Situation:
    """The same, had every node that said nothing, and every booting one, been idle.

    The arithmetic of the Kubernetes HPA (replica_calculator.go) for a change outwards: nodes
    without a metric and pods that are not ready count with 0 % of use.
    """
    samples = seen.observation.samples
    counted = seen.counted + seen.observation.booting
    each = seen.counted / len(samples) if samples else 0.0  # so many nodes a sample stands for
    totals = {
        CPU: sum(s.cpu_percent or 0.0 for s in samples) * each,
        MEMORY: sum(s.memory_percent or 0.0 for s in samples) * each,
    }
    means = {name: totals[name] / counted for name in seen.averages}
    return seen._replace(averages=means, counted=counted)


def if_busy(seen: Situation) -> Situation:
    """The same, had every node that said nothing been busy: the HPA's rule for a change inwards."""
    samples = seen.observation.samples
    cpu = sum(100.0 if s.cpu_percent is None else s.cpu_percent for s in samples)
    memory = sum(100.0 if s.memory_percent is None else s.memory_percent for s in samples)
    totals = {CPU: cpu, MEMORY: memory}
    return seen._replace(averages={name: totals[name] / len(samples) for name in seen.averages})


def changes(
    now: float, history: History, observation: Observation
) -> tuple[float | None, float | None]:
    """When the count last rose and fell, also by a person's hand since the last evaluation."""
    before = history.points[-1].desired if history.points else observation.desired
    last_out_at = now if observation.desired > before else history.last_out_at
    last_in_at = now if observation.desired < before else history.last_in_at
    return last_out_at, last_in_at


def nodes(count: int) -> str:
    """`1 node`, `3 nodes`."""
    return "1 node" if count == 1 else f"{count} nodes"


def percent(value: float) -> str:
    """A figure for a sentence: no digits that mean nothing, but 70.4 is not shown as 70."""
    return f"{value:.0f} %" if abs(value - round(value)) < 0.05 else f"{value:.1f} %"
