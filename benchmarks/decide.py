"""What a decision costs: `decide` and `remember` together, and simulated decisions per second.

CPU time of this process, the best of several rounds: other work on the machine is no part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks.harness.rows import Row, at_least
from control_node.policies import (
    POLICIES,
    History,
    NodeSample,
    Observation,
    decide,
    remember,
)
from labcore.wire.lab import Scaling
from labctl.simulate.model import World, simulate
from labctl.simulate.trace import Demand

ROWS = [{"from": f"{hour:02}:00", "to": f"{hour:02}:45", "count": 5} for hour in range(8, 20)]
OPTIONS: dict[str, dict[str, object]] = {"schedule": {"rows": ROWS, "timezone": "Europe/Berlin"}}
NODES = 5
CALLS = 3000
ROUNDS = 5
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEAST_DECISIONS = 20_000.0  # per second, on one core


def run(*, full: bool = False) -> list[Row]:
    """The rows; longer rounds if `full`."""
    calls = CALLS * (10 if full else 1)
    rows = []
    for policy in POLICIES:
        scaling = Scaling(policy=policy, max=10, options=OPTIONS.get(policy, {}))
        seconds = best(lambda scaling=scaling: evaluate(scaling, calls))  # type: ignore[misc]
        rows.append(Row(f"{policy}: one evaluation of {NODES} nodes", seconds / calls * 1e6, "us"))
        seconds = best(lambda scaling=scaling: imitate(scaling, calls))  # type: ignore[misc]
        name = f"{policy}: simulated decisions"
        rows.append(at_least(name, calls / seconds, "1/s", LEAST_DECISIONS))
    return rows


def best(work: Callable[[], None]) -> float:
    """CPU seconds of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def evaluate(scaling: Scaling, calls: int) -> None:
    """So many evaluations of a group that needs no change."""
    samples = tuple(NodeSample(f"agent-{i + 1}", 55.0, 50.0, 3) for i in range(NODES))
    observation = Observation(samples, NODES, at=NOON)
    history = History()
    for call in range(calls):
        now = call * scaling.interval_s
        verdict = decide(now, history, observation, scaling)
        history = remember(now, history, observation, verdict, scaling)


def imitate(scaling: Scaling, calls: int) -> None:
    """A simulation of so many ticks, with load that comes and goes."""
    work = tuple(2.0 + abs(tick % 400 - 200) / 60.0 for tick in range(calls + 1))
    at = tuple(NOON + timedelta(minutes=tick) for tick in range(len(work)))
    simulate(scaling, Demand(work, at), World())
