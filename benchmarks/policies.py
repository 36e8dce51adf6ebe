"""The policies on a real trace: WorldCup98 replayed six times faster, nodes that boot in 60 s.

The trace (columns minute_utc,requests) is the file in LABCTL_BENCH_TRACE, or the first CSV in
../shared/traces beside the checkout; without one there is nothing to measure. `--full` adds nodes
that boot in 5 s and three seeds, of which the worst counts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from labctl.simulate.command import Plan, scores
from labctl.simulate.score import Score

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "traces"
# The goal for `predictive` where nodes boot in 60 s.
MOST_ABOVE_PERCENT = 1.0
MOST_OVER_IDEAL_PERCENT = 20.0
MOST_FLAPS = 25


def run(*, full: bool = False) -> list[Row]:
    """The rows of every default policy."""
    trace = find_trace()
    if trace is None:
        print("no trace: set LABCTL_BENCH_TRACE to a file", file=sys.stderr)
        return []
    rows = []
    for boot_s in (60.0, 5.0) if full else (60.0,):
        plans = [Plan(boot_s=boot_s, seed=seed) for seed in ((1, 2, 3) if full else (1,))]
        runs = [scores(plan, trace) for plan in plans]
        for same_policy in zip(*runs, strict=True):
            rows += judge(same_policy)
    return rows


def find_trace() -> Path | None:
    """The trace to use, if there is one."""
    given = os.environ.get("LABCTL_BENCH_TRACE")
    return Path(given) if given else next(iter(sorted(BESIDE.glob("*.csv"))), None)


def judge(runs: tuple[Score, ...]) -> list[Row]:
    """The worst of several seeds, held against the goal where there is one."""
    name, boot_s = runs[0].policy, runs[0].boot_s
    goal = name == "predictive" and boot_s == 60.0
    over_ideal = max(100.0 * (run.node_hours / run.ideal_node_hours - 1.0) for run in runs)
    label = f"{name}, boot {boot_s:g} s:"
    figures = (
        (f"{label} above target", max(r.above_target_percent for r in runs), MOST_ABOVE_PERCENT),
        (f"{label} work lost", max(r.lost_percent for r in runs), 0.0),
        (f"{label} node-hours over ideal", over_ideal, MOST_OVER_IDEAL_PERCENT),
    )
    flaps = (f"{label} flaps", float(max(r.flaps for r in runs)), "")
    if not goal:
        return [*(Row(what, value, "%") for what, value, _ in figures), Row(*flaps)]
    return [
        *(at_most(what, value, "%", bar) for what, value, bar in figures),
        at_most(*flaps, MOST_FLAPS),
    ]
