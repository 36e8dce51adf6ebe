"""`target`: as many nodes as bring CPU to a target, like the Kubernetes HPA.

count = ceil(nodes x CPU / target), unless CPU / target is within `tolerance` of 1. Outwards at
once; inwards to the largest count that was asked for within the last `stabilization_s`. Formula
and defaults: kubernetes/website, "Horizontal Pod Autoscaling", and replica_calculator.go. Not
taken over: its limit of +100 % or 4 pods per 15 s (here `max` is the limit).

It sets its own pace, so `cooldown_out_s`, `cooldown_in_s` and `evaluation_periods` do not apply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from control_node.policies.guards import memory_floor
from control_node.policies.settings import options, within
from control_node.policies.situation import CPU, Proposal, Situation, nodes, percent
from labcore.wire.lab import Scaling

ROUNDING = 1e-9  # 3 x 70 / 70 is 3 nodes, not 4


@dataclass(frozen=True)
class TargetOptions:
    """What `scaling.options` may hold."""

    target_percent: float = 70.0
    tolerance: float = 0.1
    stabilization_s: float = 300.0


def check(scaling: Scaling) -> None:
    """Raise UsageProblem for options that this rule cannot follow."""
    chosen = options(TargetOptions, scaling)
    within(chosen.target_percent, "target_percent", 1.0, 100.0)
    within(chosen.tolerance, "tolerance", 0.0, 1.0)
    within(chosen.stabilization_s, "stabilization_s", 0.0, 3600.0)


def wishes_s(scaling: Scaling) -> float:
    """The stabilisation window."""
    return options(TargetOptions, scaling).stabilization_s


def propose(seen: Situation) -> Proposal:
    """The count that brings CPU to the target; inwards not below what was asked for lately."""
    chosen = options(TargetOptions, seen.scaling)
    cpu = seen.averages.get(CPU)
    if cpu is None:
        return Proposal(seen.desired, ("no node has told its CPU",))
    ratio = cpu / chosen.target_percent
    compared = f"average CPU {percent(cpu)} against a target of {percent(chosen.target_percent)}"
    if abs(ratio - 1.0) <= chosen.tolerance + ROUNDING:
        return Proposal(seen.desired, (f"{compared}: close enough",))
    wish = math.ceil(ratio * seen.counted - ROUNDING)
    reason = f"{compared} asks for {nodes(wish)}"
    if wish >= seen.desired:
        return Proposal(wish, (reason,))
    since = seen.now - chosen.stabilization_s
    recent = max([w.count for w in seen.history.wishes if w.at >= since], default=0)
    floor = memory_floor(seen)
    reasons = [reason]
    if recent > wish:
        reasons.append(f"{nodes(recent)} asked for within the last {chosen.stabilization_s:g} s")
    if floor > wish:
        reasons.append(f"memory may need {nodes(floor)}")
    return Proposal(min(seen.desired, max(wish, recent, floor)), tuple(reasons), wish=wish)
