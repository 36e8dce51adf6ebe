"""What a rule looks at: one observation in figures, beside what is remembered of earlier ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_node.policies.types import History, NodeSample, Observation
from labcore.wire.lab import Scaling

CPU = "cpu_percent"
MEMORY = "memory_percent"
METRICS = (CPU, MEMORY)
LABELS = {CPU: "CPU", MEMORY: "memory"}


@dataclass(frozen=True)
class Situation:
    """The input of a rule."""

    now: float
    scaling: Scaling
    history: History
    observation: Observation
    averages: Mapping[str, float]  # metric name -> mean over the nodes that gave it
    missing: tuple[str, ...]  # serving nodes that did not give every metric
    counted: int  # nodes that the averages stand for: the serving ones
    last_out_at: float | None  # of the last change outwards, by whomever it was made
    last_in_at: float | None

    @property
    def desired(self) -> int:
        """The count that is wished for now."""
        return self.observation.desired

    def demand(self, metric: str) -> float | None:
        """What all nodes use together, in hundredths of one node; None if no node said."""
        average = self.averages.get(metric)
        return None if average is None else average * self.counted


@dataclass(frozen=True)
class Proposal:
    """What a rule wants before anybody objects. `vetoes` are its own (not yet, not now).

    `wish` is what its formula alone gave, where the rule itself is slower than that.
    """

    count: int
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...] = ()
    wish: int | None = None


Rule = Callable[[Situation], Proposal]


def look(now: float, history: History, observation: Observation, scaling: Scaling) -> Situation:
    """The situation of one observation."""
    last_out_at, last_in_at = changes(now, history, observation)
    return Situation(
        now=now,
        scaling=scaling,
        history=history,
        observation=observation,
        averages=averages(observation.samples),
        missing=missing(observation.samples),
        counted=len(observation.samples),
        last_out_at=last_out_at,
        last_in_at=last_in_at,
    )


def averages(samples: tuple[NodeSample, ...]) -> dict[str, float]:
    """The mean of each metric over the nodes that gave it; a metric that none gave is left out."""
    found = {
        CPU: [s.cpu_percent for s in samples if s.cpu_percent is not None],
        MEMORY: [s.memory_percent for s in samples if s.memory_percent is not None],
    }
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def missing(samples: tuple[NodeSample, ...]) -> tuple[str, ...]:
    """The nodes that did not give every metric."""
    return tuple(s.node for s in samples if s.cpu_percent is None or s.memory_percent is None)


def in_flight(samples: tuple[NodeSample, ...]) -> int:
    """Requests being worked on, as far as the nodes say."""
    return sum(s.in_flight for s in samples if s.in_flight)


def if_idle(seen: Situation) -> Situation:
    """The same, had every node that said nothing, and every booting one, been idle.

    The arithmetic of the Kubernetes HPA (replica_calculator.go) for a change outwards: nodes
    without a metric and pods that are not ready count with 0 % of use.
    """
    samples = seen.observation.samples
    counted = len(samples) + seen.observation.booting
    totals = {
        CPU: sum(s.cpu_percent or 0.0 for s in samples),
        MEMORY: sum(s.memory_percent or 0.0 for s in samples),
    }
    means = {name: totals[name] / counted for name in seen.averages}
    return dataclasses.replace(seen, averages=means, counted=counted)


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
