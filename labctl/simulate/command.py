"""What `labctl simulate` does, apart from its options: plan in, rows out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labcore import files
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling
from labcore.wire.scaler import Action
from labctl.simulate import picture
from labctl.simulate.model import Run, World, simulate
from labctl.simulate.replay import Answer, read_decisions, replay
from labctl.simulate.score import Score, ideal, score
from labctl.simulate.trace import Demand, demand, peak, read_trace
from labctl.simulate.variants import DEFAULTS, scaling_for

HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")


@dataclass(frozen=True)
class Plan:
    """The options of the command, with its defaults."""

    policies: tuple[str, ...] = ()  # none: DEFAULTS
    speed: float = 6.0
    boot_s: float = 60.0
    interval_s: float = 10.0
    min: int = 2
    max: int = 10
    target_percent: float = 70.0
    peak_nodes: float = 9.0
    noise: float = 0.05
    hours: str = "10-22"
    seed: int = 1

    @property
    def world(self) -> World:
        """What does not depend on the policy."""
        return World(self.boot_s, self.noise, self.seed, self.target_percent)

    def scalings(self) -> dict[str, Scaling]:
        """The rules of each policy asked for, by the name it was asked for with."""
        if not 1 <= self.min <= self.max:
            raise UsageProblem(f"--min {self.min} --max {self.max}: not 1 <= min <= max")
        for name in ("speed", "interval_s", "target_percent", "peak_nodes"):
            if not getattr(self, name) > 0:
                raise UsageProblem(f"--{name.replace('_', '-')} must be above 0")
        if self.boot_s < 0 or self.noise < 0:
            raise UsageProblem("--boot-s and --noise must not be below 0")
        base = Scaling(min=self.min, max=self.max, interval_s=self.interval_s)
        names = self.policies or DEFAULTS
        return {name: scaling_for(name, base, self.world) for name in names}


@dataclass(frozen=True)
class Experiment:
    """What became of the policies of a plan."""

    most: int  # the maximum
    needed: list[int]  # the fewest nodes that keep the target, tick by tick
    runs: dict[str, Run]
    scores: tuple[Score, ...]


def experiment(plan: Plan, trace: Path) -> Experiment:
    """Run every policy against the same demand and the same noise.

    Raises UsageProblem and NotFound.
    """
    scalings = plan.scalings()
    work = load_demand(plan, trace)
    runs = {name: simulate(scaling, work, plan.world) for name, scaling in scalings.items()}
    limits = Scaling(min=plan.min, max=plan.max)
    needed = [ideal(amount, plan.target_percent / 100.0, limits) for amount in work.work]
    rows = (score(name, run, work, scalings[name], plan.world) for name, run in runs.items())
    return Experiment(plan.max, needed, runs, tuple(rows))


def scores(plan: Plan, trace: Path) -> tuple[Score, ...]:
    """The scores of an experiment, one for each policy."""
    return experiment(plan, trace).scores


def load_demand(plan: Plan, path: Path) -> Demand:
    """The demand of a trace, of which 99.9 % of the minutes need at most `peak_nodes`."""
    found = HOURS.fullmatch(plan.hours)
    first, end = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= first < end <= 24:
        raise UsageProblem(f"--hours {plan.hours!r} is not like 10-22")
    trace = read_trace(path, (first, end))
    most = peak(trace)
    if not most:
        raise UsageProblem(f"{path}: no requests at all")
    node_requests = most / (plan.peak_nodes * plan.target_percent / 100.0)
    return demand(trace, node_requests=node_requests, speed=plan.speed, interval_s=plan.interval_s)


def draw(done: Experiment, path: Path) -> None:
    """Write the SVG file `path`. Raises UsageProblem."""
    try:
        files.write_atomic(path, picture.svg(done.runs, done.needed, done.most))
    except OSError as error:
        raise UsageProblem(f"cannot write {path}: {error}") from error


def answers(plan: Plan, record: Path) -> tuple[Answer, ...]:
    """What each policy says to each decision in `record`; see labctl.simulate.replay."""
    scalings = plan.scalings()
    decisions = read_decisions(record)
    return tuple(
        answer for name, scaling in scalings.items() for answer in replay(name, scaling, decisions)
    )


def scores_table(rows: tuple[Score, ...]) -> list[str]:
    """Scores as aligned lines for people."""
    titles = ("above target", "lost", "under", "over", "flaps", "hours", "over ideal")
    cells = [("policy", *titles)]
    for row in rows:
        excess = 100.0 * (row.node_hours / row.ideal_node_hours - 1.0)
        cells.append(
            (
                row.policy,
                f"{row.above_target_percent:.2f} %",
                f"{row.lost_percent:.3f} %",
                f"{row.theta_under:.2f} %",
                f"{row.theta_over:.1f} %",
                f"{row.flaps}",
                f"{row.node_hours:.1f}",
                f"{excess:+.1f} %",
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([f"{name:<{widths[0]}}", *map(str.rjust, figures, widths[1:])])
        for name, *figures in cells
    ]


def answers_table(rows: tuple[Answer, ...]) -> list[str]:
    """Where a policy would have decided otherwise than was recorded, and how often."""
    lines = []
    for name in dict.fromkeys(row.policy for row in rows):
        mine = [row for row in rows if row.policy == name]
        other = [row for row in mine if row.count != row.recorded_count]
        for row in other:
            why = "; ".join((*row.reasons, *(f"but {veto}" for veto in row.vetoes)))
            lines.append(
                f"{row.at}  {row.group}  {row.recorded_policy}: "
                f"{_word(row.recorded_action, row.recorded_count)}, "
                f"{name}: {_word(row.action, row.count)} ({why})"
            )
        lines.append(f"{name}: decides otherwise in {len(other)} of {len(mine)} decisions")
    return lines


def _word(action: Action, count: int) -> str:
    return f"hold at {count}" if action is Action.HOLD else f"{action} to {count}"
