"""How well a run fitted its demand.

The theta and tau are those of SPEC RG Cloud, "Ready for Rain?" (SPEC-RG-2016-01): how much, and how
long, there were too few (under) or too many (over) nodes, against the fewest that keep the target.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from control_node.policies import Action
from labcore.wire.lab import Scaling
from labctl.simulate.model import Run, World
from labctl.simulate.trace import Demand

FLAP_S = 600.0  # a change of direction within this many virtual seconds
ROUNDING = 1e-9  # 7.000000000000001 nodes are 7


@dataclass(frozen=True)
class Score:
    """One row of the result. Percentages are of time, but `lost_percent`, which is of the work."""

    policy: str
    boot_s: float
    above_target_percent: float  # the serving nodes' load was above the target
    lost_percent: float  # offered work above 100 % of the serving nodes
    theta_under: float  # mean share of the needed nodes that was missing, per cent
    theta_over: float  # mean nodes too many, per cent of the needed ones
    tau_under_percent: float  # fewer nodes served than were needed
    tau_over_percent: float
    flaps: int
    node_hours: float  # of nodes that served or booted, virtual time
    ideal_node_hours: float  # of the fewest nodes that keep the target, within min..max


def score(policy: str, run: Run, demand: Demand, scaling: Scaling, world: World) -> Score:
    """Score a run of that very demand."""
    target = world.target_percent / 100.0
    needed = [ideal(work, target, scaling) for work in demand.work]
    pairs = list(zip(needed, run.serving, strict=True))
    works = list(zip(demand.work, run.serving, strict=True))
    ticks = len(pairs)
    hours = scaling.interval_s / 3600.0
    offered = sum(demand.work)
    lost = sum(max(0.0, work - serving) for work, serving in works)
    return Score(
        policy=policy,
        boot_s=world.boot_s,
        above_target_percent=100.0 * sum(w > target * s + ROUNDING for w, s in works) / ticks,
        lost_percent=100.0 * lost / offered if offered else 0.0,
        theta_under=100.0 * sum(max(0, n - s) / n for n, s in pairs if n) / ticks,
        theta_over=100.0 * sum(max(0, s - n) / n for n, s in pairs if n) / ticks,
        tau_under_percent=100.0 * sum(s < n for n, s in pairs) / ticks,
        tau_over_percent=100.0 * sum(s > n for n, s in pairs) / ticks,
        flaps=flaps(run.changes),
        node_hours=sum(run.running) * hours,
        ideal_node_hours=sum(needed) * hours,
    )


def ideal(work: float, target: float, scaling: Scaling) -> int:
    """The fewest nodes, within the limits, that `work` does not load above `target` (0..1)."""
    return max(scaling.min, min(scaling.max, math.ceil(work / target - ROUNDING)))


def flaps(changes: list[tuple[float, Action]]) -> int:
    """Reversals of direction within FLAP_S of the change before."""
    return sum(
        before[1] is not after[1] and after[0] - before[0] <= FLAP_S
        for before, after in itertools.pairwise(changes)
    )
