"""What the demo sets so that it ends in about two minutes, and how much load it sends. Pure."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from labcore.errors import UsageProblem
from labcore.wire.lab import Group
from labctl.load.schedule import Schedule, parse_schedule

# The figures of `labctl up` made shorter; a quarter of a core is 100 % of an agent, so that the
# laptop has most of its cores left.
SETTINGS = (
    "scaling.mode=auto",
    "scaling.interval_s=2",
    "scaling.cooldown_out_s=10",
    "scaling.cooldown_in_s=8",
    "groups.agent.cpus=0.25",
)
WORK_MS = 20.0
LEAST_RPS = 20.0  # fewer requests make a CPU figure that jumps


@dataclass(frozen=True)
class Script:
    """How long the demo waits for what; all in seconds."""

    out_limit_s: float = 90.0
    settle_s: float = 12.0  # how long the load goes on when the new agent serves
    in_limit_s: float = 90.0
    ramp_s: float = 8.0


@dataclass(frozen=True)
class LoadLevel:
    """Requests that make `percent` of CPU on the agents there are."""

    rps: float
    ms: float  # of CPU time for each
    percent: float

    def schedule(self, script: Script) -> Schedule:
        """Rise, hold for 20 s, then rise to the double: a figure that is off is made up for."""
        rest = script.out_limit_s + script.settle_s
        rps = f"{self.rps:.2f}"
        double = f"{2 * self.rps:.2f}"
        return parse_schedule(
            f"0:{rps}:{script.ramp_s}s,{rps}:20s,{rps}:{double}:40s,{double}:{rest}s"
        )


def choose_level(group: Group) -> LoadLevel:
    """The load that lifts CPU a third of the way from the threshold to 100 %.

    What the requests cost besides their work (about a tenth) comes on top. With three agents in
    place of two the same load is below a threshold of 70 % again.
    Raises UsageProblem for a group that does not grow by CPU.
    """
    limits = group.scaling
    threshold = limits.out_above.get("cpu_percent") if limits else None
    if threshold is None or threshold >= 100:
        raise UsageProblem(f"the demo needs a CPU threshold below 100 % for group {group.name!r}")
    percent = threshold + (100 - threshold) / 3
    cores = group.desired_count * group.cpus * percent / 100
    # Rounded before it decides the rate: after it, a small lab's load could miss the threshold.
    ms = round(min(WORK_MS, max(1.0, 1000 * cores / LEAST_RPS)), 1)
    return LoadLevel(rps=round(1000 * cores / ms, 2), ms=ms, percent=percent)


def free_name(taken: Container[str], wanted: str = "demo") -> str:
    """`demo`, or demo-2, demo-3, ... if that is taken."""
    number = 1
    while (name := wanted if number == 1 else f"{wanted}-{number}") in taken:
        number += 1
    return name
