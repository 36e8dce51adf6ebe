"""`threshold`: one node more when any metric is high, one fewer when all are low; and `memory`.

The brief's rule: average CPU above 70 % or memory above 80 % -> out by one; CPU below 30 % and
memory below 40 % -> in by one. No load that stays the same makes it flap: with n nodes left,
30 x (n + 1) / n < 70 and 70 x n / (n + 1) > 30 hold for every n >= 2 (also for 80/30).

`memory` is the same rule on memory alone. The brief's settings for it, to be written in the lab
file: min 2, max 10, out 80, in 30, cooldowns 300 s out and 600 s in, 3 evaluation periods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from control_node.policies.settings import made
from control_node.policies.situation import (
    LABELS,
    MEMORY,
    METRICS,
    Proposal,
    Situation,
    nodes,
    percent,
)
from control_node.policies.types import Point
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling

# An evaluation that comes late by half an interval still follows on the one before.
LATE = 1.5
# Per cent of memory that a node must have brought down, unless half of its fair share is less.
RELIEF = 1.0


def check(scaling: Scaling) -> None:
    """Raise UsageProblem for settings that this rule cannot follow."""
    for name, bounds in (("out", scaling.out_above), ("in", scaling.in_below)):
        unknown = sorted(set(bounds) - set(METRICS))
        if unknown:
            raise UsageProblem(
                f"scaling.{name}: no agent reports {unknown[0]!r}", f"known: {', '.join(METRICS)}"
            )
    for metric, low in scaling.in_below.items():
        high = scaling.out_above.get(metric)
        if high is not None and low >= high:
            raise UsageProblem(
                f"scaling: {metric} would ask for fewer nodes below {low:g} and for more above "
                f"{high:g}",
                "the limit of `in` must be the lower one",
            )
    if scaling.options:
        raise UsageProblem(f"scaling.options: policy {scaling.policy!r} has none")


def check_memory(scaling: Scaling) -> None:
    """Raise UsageProblem for settings that policy `memory` cannot follow."""
    check(scaling)
    for name, bounds in (("out", scaling.out_above), ("in", scaling.in_below)):
        if MEMORY not in bounds:
            raise UsageProblem(f"scaling.{name}: policy 'memory' needs {MEMORY}")


def propose(seen: Situation) -> Proposal:
    """One node more, one fewer, or as it is."""
    high = _above(seen.averages, seen.scaling)
    memory = high_memory(seen)
    if memory is not None and memory.vetoes:
        high.remove(MEMORY)
    if high:
        reasons = tuple(_sentence(seen, m, "above", seen.scaling.out_above[m]) for m in high)
        return Proposal(seen.desired + 1, reasons, _not_yet(seen, outwards=True))
    if memory is not None:
        return memory
    if _low(seen.averages, seen.scaling):
        bounds = seen.scaling.in_below.items()
        reasons = tuple(_sentence(seen, metric, "below", bound) for metric, bound in bounds)
        return Proposal(seen.desired - 1, reasons, _not_yet(seen, outwards=False))
    return Proposal(seen.desired, (_calm(seen),))


def propose_by_memory(seen: Situation) -> Proposal:
    """`propose`, with thresholds for memory only."""
    return propose(seen._replace(scaling=made(_of_memory, seen.scaling)))


def _of_memory(scaling: Scaling) -> Scaling:
    return dataclasses.replace(
        scaling,
        out_above={MEMORY: scaling.out_above[MEMORY]},
        in_below={MEMORY: scaling.in_below[MEMORY]},
    )


def _above(averages: Mapping[str, float], scaling: Scaling) -> list[str]:
    return [
        metric for metric, bound in scaling.out_above.items() if averages.get(metric, bound) > bound
    ]


def _low(averages: Mapping[str, float], scaling: Scaling) -> bool:
    for metric, bound in scaling.in_below.items():
        if not averages.get(metric, bound) < bound:
            return False
    return bool(scaling.in_below)


def _not_yet(seen: Situation, *, outwards: bool) -> tuple[str, ...]:
    """A veto unless `evaluation_periods` evaluations in a row agree, this one included."""
    needed = seen.scaling.evaluation_periods
    if needed <= 1:
        return ()
    agreed = 1
    later = seen.now
    for point in reversed(seen.history.points[-(needed - 1) :]):
        in_a_row = 0.0 <= later - point.at <= LATE * seen.scaling.interval_s
        if not in_a_row or not _agrees(point, seen.scaling, outwards=outwards):
            break
        agreed += 1
        later = point.at
    if agreed >= needed:
        return ()
    return (f"only {agreed} of the {needed} evaluations in a row that must agree",)


def _agrees(point: Point, scaling: Scaling, *, outwards: bool) -> bool:
    if outwards:
        return bool(_above(point.averages, scaling))
    silent = 1.0 - point.answered / point.serving if point.serving else 1.0
    worst = {m: v + silent * (100.0 - v) for m, v in point.averages.items()}  # they are busy
    return _low(worst, scaling)


def high_memory(seen: Situation) -> Proposal | None:
    """One node more because memory is above its limit, or why not; None if it is not.

    What a node needs to run at all does not shrink when nodes are added, so memory can stay above
    its limit for ever. A node that was added while memory was too high must have lowered it.
    """
    bound = seen.scaling.out_above.get(MEMORY)
    if bound is None or seen.averages.get(MEMORY, bound) <= bound:
        return None
    reasons = (_sentence(seen, MEMORY, "above", bound),)
    stuck = _stuck(seen)
    if stuck:
        return Proposal(seen.desired, reasons, (stuck,))
    return Proposal(seen.desired + 1, reasons)


def _stuck(seen: Situation) -> str | None:
    before = seen.history.before_out
    if before is None or seen.counted <= before.serving:
        return None
    was, now = before.averages.get(MEMORY, 0.0), seen.averages[MEMORY]
    fair_share = was * (1.0 - before.serving / seen.counted)
    if was - now >= min(RELIEF, fair_share / 2.0):
        return None
    return (
        f"growing from {before.serving} to {nodes(seen.counted)} did not lower memory "
        f"({percent(was)} before, {percent(now)} now): one more would not either"
    )


def _sentence(seen: Situation, metric: str, side: str, bound: float) -> str:
    return f"average {LABELS[metric]} {percent(seen.averages[metric])} is {side} {percent(bound)}"


def _calm(seen: Situation) -> str:
    if not seen.averages:
        return "no node has told its load"
    figures = ", ".join(f"{LABELS[m]} {percent(v)}" for m, v in seen.averages.items())
    return f"no limit is crossed: average {figures}"
