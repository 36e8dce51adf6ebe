"""The policies on a real trace: WorldCup98 replayed six times faster, nodes that boot in 60 s.

The trace (columns minute_utc,requests) is the file in LABCTL_BENCH_TRACE, or the first CSV in
../shared/traces beside the checkout; without one there is nothing to measure. `--full` takes three
seeds, of which the worst counts, nodes that boot in 5 s too, and `predictive` and `threshold` on
parts of the trace, each scaled to its own peak, and under other conditions.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from labctl.simulate.command import Plan, scores
from labctl.simulate.score import Score

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "traces"
SEEDS = (1, 2, 3)
# The goal for `predictive` where nodes boot in 60 s.
MOST_ABOVE_PERCENT = 1.0
MOST_OVER_IDEAL_PERCENT = 20.0
MOST_FLAPS = 25


@dataclass(frozen=True)
class Window:
    """A part of the trace, or the whole of it, under some conditions."""

    name: str
    days: tuple[int, ...] = ()  # by their place in the trace, in this order; none: all
    plan: dict[str, object] = field(default_factory=dict)


WINDOWS = (
    Window("all days"),
    Window("first half", tuple(range(9))),
    Window("second half", tuple(range(9, 18))),
    Window("odd days", tuple(range(1, 18, 2))),
    Window("even days", tuple(range(0, 18, 2))),
    Window("a busy day between quiet ones", (12, 17, 13, 15, 16, 3, 14, 4, 10, 11, 17)),
    Window("mostly quiet days", (10, 11, 15, 3, 4, 16, 17, 10, 3, 13, 4)),
    Window("the four busiest days", (13, 14, 15, 16)),
    Window("whole days", plan={"hours": "0-24"}),
    Window("12-24 h", plan={"hours": "12-24"}),
    Window("nights, 0-10 h", plan={"hours": "0-10"}),
    Window("3 times as fast", plan={"speed": 3.0}),
    Window("12 times as fast", plan={"speed": 12.0}),
    Window("boot 120 s", plan={"boot_s": 120.0}),
    Window("noise 10 %", plan={"noise": 0.1}),
    Window("2 to 20 nodes, peak 18", plan={"max": 20, "peak_nodes": 18.0}),
    Window("1 to 5 nodes, peak 4", plan={"min": 1, "max": 5, "peak_nodes": 4.0}),
    Window("7 times as fast, 14-24 h", plan={"speed": 7.0, "hours": "14-24"}),
)


def run(*, full: bool = False) -> list[Row]:
    """The rows of every default policy; with `full` those of the windows too."""
    trace = find_trace()
    if trace is None:
        print("no trace: set LABCTL_BENCH_TRACE to a file", file=sys.stderr)
        return []
    rows = []
    for boot_s in (60.0, 5.0) if full else (60.0,):
        plans = [Plan(boot_s=boot_s, seed=seed) for seed in (SEEDS if full else SEEDS[:1])]
        runs = [scores(plan, trace) for plan in plans]
        for same_policy in zip(*runs, strict=True):
            rows += judge(same_policy)
    return [*rows, *(windows(trace) if full else ())]


def find_trace() -> Path | None:
    """The trace to use, if there is one."""
    given = os.environ.get("LABCTL_BENCH_TRACE")
    return Path(given) if given else next(iter(sorted(BESIDE.glob("*.csv"))), None)


def judge(runs: tuple[Score, ...]) -> list[Row]:
    """The worst of several seeds, held against the goal where there is one."""
    name, boot_s = runs[0].policy, runs[0].boot_s
    goal = name == "predictive" and boot_s == 60.0
    label = f"{name}, boot {boot_s:g} s:"
    figures = (
        (f"{label} above target", max(r.above_target_percent for r in runs), MOST_ABOVE_PERCENT),
        (f"{label} work lost", max(r.lost_percent for r in runs), 0.0),
        (f"{label} node-hours over ideal", max(map(over_ideal, runs)), MOST_OVER_IDEAL_PERCENT),
    )
    flaps = (f"{label} flaps", float(max(r.flaps for r in runs)), "")
    if not goal:
        return [*(Row(what, value, "%") for what, value, _ in figures), Row(*flaps)]
    return [
        *(at_most(what, value, "%", bar) for what, value, bar in figures),
        at_most(*flaps, MOST_FLAPS),
    ]


def over_ideal(run: Score) -> float:
    """Node-hours above the ideal ones, per cent."""
    return 100.0 * (run.node_hours / run.ideal_node_hours - 1.0)


def windows(trace: Path) -> Iterable[Row]:
    """Means of the seeds and the worst: what a rule is worth where nobody tuned it. No bars."""
    lines = trace.read_text(encoding="utf-8").splitlines()
    for window in WINDOWS:
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part.csv"
            part.write_text("\n".join([lines[0], *of_days(lines[1:], window.days)]))
            for policy in ("predictive", "threshold"):
                plans = [Plan((policy,), seed=seed, **window.plan) for seed in SEEDS]  # type: ignore[arg-type]
                runs = [scores(plan, part)[0] for plan in plans]
                yield from _summary(f"{window.name}, {policy}:", runs)


def of_days(lines: list[str], days: tuple[int, ...]) -> list[str]:
    """The lines of those days, in that order."""
    if not days:
        return lines
    dates = sorted({line[:10] for line in lines})
    return [line for day in days for line in lines if line.startswith(dates[day])]


def _summary(label: str, runs: list[Score]) -> list[Row]:
    return [
        Row(
            f"{label} above target, mean",
            statistics.fmean(r.above_target_percent for r in runs),
            "%",
        ),
        Row(f"{label} above target, worst", max(r.above_target_percent for r in runs), "%"),
        Row(f"{label} work lost, worst", max(r.lost_percent for r in runs), "%"),
        Row(f"{label} over ideal, mean", statistics.fmean(map(over_ideal, runs)), "%"),
        Row(f"{label} flaps, worst", float(max(r.flaps for r in runs)), ""),
    ]
