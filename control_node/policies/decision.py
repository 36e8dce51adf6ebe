"""`decide` and `remember`: one rule, the guards of all rules, and what is kept for the next time.

Both are pure: the same arguments give the same answer; nothing is read, written or waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from control_node.policies import guards, manual, predictive, schedule, target, threshold
from control_node.policies.daytime import slot_of
from control_node.policies.situation import (
    CPU,
    MEMORY,
    Proposal,
    Rule,
    Situation,
    look,
    nodes,
)
from control_node.policies.types import (
    Action,
    Daytime,
    History,
    Observation,
    Point,
    Verdict,
    Wish,
)
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling

Entry = TypeVar("Entry", Point, Wish)

MOST_POINTS = 720  # of history, however short the interval is


def _few(scaling: Scaling) -> float:
    return scaling.interval_s * (scaling.evaluation_periods + 1)


def _none(scaling: Scaling) -> float:
    return 0.0


@dataclass(frozen=True)
class Policy:
    """One entry of the registry."""

    rule: Rule
    check: Callable[[Scaling], None]  # raises UsageProblem, naming the setting
    summary: str
    cools_down: bool = False  # obeys cooldown_out_s and cooldown_in_s
    points_s: Callable[[Scaling], float] = _few  # how long it needs points of history
    wishes_s: Callable[[Scaling], float] = _none
    options: type | None = None  # the dataclass of its scaling.options
    learn: Callable[[Situation], Daytime] | None = None  # what it knows of the times of day


POLICIES: Mapping[str, Policy] = {
    "threshold": Policy(
        threshold.propose,
        threshold.check,
        "one node more when any metric is high, one fewer when all are low",
        cools_down=True,
    ),
    "memory": Policy(
        threshold.propose_by_memory,
        threshold.check_memory,
        "threshold, by memory alone",
        cools_down=True,
    ),
    "target": Policy(
        target.propose,
        target.check,
        "as many nodes as bring CPU to a target, inwards after a while (Kubernetes HPA)",
        wishes_s=target.wishes_s,
        options=target.TargetOptions,
    ),
    "predictive": Policy(
        predictive.propose,
        predictive.check,
        "what demand needs after the growth that earlier days had at this time, at once",
        points_s=predictive.points_s,
        wishes_s=predictive.wishes_s,
        options=predictive.PredictiveOptions,
        learn=predictive.learn,
    ),
    "schedule": Policy(
        schedule.propose, schedule.check, "a timetable", options=schedule.ScheduleOptions
    ),
    "manual": Policy(manual.propose, manual.check, "only people change the count"),
}


def find(scaling: Scaling) -> Policy:
    """The policy that `scaling` names. Raises UsageProblem."""
    policy = POLICIES.get(scaling.policy)
    if policy is None:
        raise UsageProblem(
            f"scaling.policy: there is no policy {scaling.policy!r}",
            f"known: {', '.join(POLICIES)}",
        )
    return policy


def check(scaling: Scaling) -> None:
    """Raise UsageProblem if `scaling` cannot be followed: no such policy, or unfit settings."""
    find(scaling).check(scaling)


def decide(now: float, history: History, observation: Observation, scaling: Scaling) -> Verdict:
    """How many nodes there should be, and why.

    `now` is monotonic seconds. A count outside min..max is brought back inside before anything
    else. Otherwise missing, stale or suspect metrics never shrink the group, a change that the
    nodes still booting would make needless is not made, and the limits are applied last.
    Raises UsageProblem for settings that `check` refuses.
    """
    policy = find(scaling)
    seen = look(now, history, observation, scaling)
    inside = _clamp(observation.desired, scaling)
    if inside != observation.desired:
        proposal = Proposal(inside, (_outside(observation.desired, scaling),))
        return _verdict(seen, proposal, inside, ())
    proposal = policy.rule(seen)
    if proposal.count == observation.desired:
        return _verdict(seen, proposal, proposal.count, proposal.vetoes)
    return _guarded(seen, policy, proposal)


def _guarded(seen: Situation, policy: Policy, proposal: Proposal) -> Verdict:
    count = proposal.count
    vetoes = proposal.vetoes
    if count > seen.desired:
        count, unsure = guards.outwards(seen, policy.rule, proposal)
        vetoes += unsure
        highest = guards.ceiling(seen)
        if seen.desired == highest:
            vetoes += (_full(seen, highest),)
        count = min(count, highest)
    else:
        vetoes += guards.inwards(seen, policy.rule)
        if seen.desired == seen.scaling.min:
            vetoes += (f"{nodes(seen.desired)} is the minimum",)
    if policy.cools_down:
        vetoes += _cooling(seen, proposal.count - seen.desired)
    return _verdict(seen, proposal, seen.desired if vetoes else _clamp(count, seen.scaling), vetoes)


def _clamp(count: int, scaling: Scaling) -> int:
    return max(scaling.min, min(scaling.max, count))


def _outside(desired: int, scaling: Scaling) -> str:
    if desired < scaling.min:
        return f"{nodes(desired)} wished for, but the minimum is {scaling.min}"
    return f"{nodes(desired)} wished for, but the maximum is {scaling.max}"


def _full(seen: Situation, highest: int) -> str:
    if highest == seen.scaling.max:
        return f"{nodes(highest)} is the maximum"
    return f"{nodes(seen.observation.unknown)} of unknown state may run and count to the maximum"


def _cooling(seen: Situation, direction: int) -> tuple[str, ...]:
    remaining_s = _remaining_s(seen, direction)
    if not remaining_s:
        return ()
    return (f"the cooldown after the last change lasts {remaining_s:.0f} s more",)


def _verdict(seen: Situation, proposal: Proposal, count: int, vetoes: tuple[str, ...]) -> Verdict:
    desired = seen.desired
    action = Action.HOLD
    if count != desired:
        action = Action.OUT if count > desired else Action.IN
    observation = seen.observation
    inputs = {
        CPU: seen.averages.get(CPU),
        MEMORY: seen.averages.get(MEMORY),
        "serving": float(seen.counted),
        "missing": float(len(seen.missing)),
        "booting": float(observation.booting),
        "draining": float(observation.draining),
        "unknown": float(observation.unknown),
        "in_flight": float(seen.in_flight),
        # Of the direction that is wished for; of the first one that opens when none is.
        "cooldown_remaining_s": _remaining_s(seen, proposal.count - desired),
    }
    wish = proposal.count if proposal.wish is None else proposal.wish
    return Verdict(action, count, proposal.reasons, vetoes, inputs, wish, proposal.demand)


def _remaining_s(seen: Situation, direction: int) -> float:
    scaling = seen.scaling
    if direction == 0:
        return guards.cooldown(seen, min(scaling.cooldown_out_s, scaling.cooldown_in_s))
    return guards.cooldown(seen, scaling.cooldown_out_s if direction > 0 else scaling.cooldown_in_s)


def remember(
    now: float, history: History, observation: Observation, verdict: Verdict, scaling: Scaling
) -> History:
    """What to keep of one evaluation; the same arguments that `decide` was called with.

    The result grows no further than what the policy looks back on (at most MOST_POINTS entries).
    """
    seen = look(now, history, observation, scaling)
    policy = find(scaling)
    point = Point(
        at=now,
        averages=seen.averages,
        serving=seen.counted,
        answered=seen.counted - len(seen.missing),
        in_flight=seen.in_flight,
        desired=verdict.count,
    )
    wish = Wish(
        now,
        seen.desired if verdict.wish is None else verdict.wish,
        verdict.demand,
        slot_of(observation.at),
    )
    return History(
        points=_kept(history.points, point, now - policy.points_s(scaling)),
        last_out_at=now if verdict.action is Action.OUT else seen.last_out_at,
        last_in_at=now if verdict.action is Action.IN else seen.last_in_at,
        wishes=_kept(history.wishes, wish, now - policy.wishes_s(scaling)),
        last_active=point if seen.averages.get(CPU) else history.last_active,
        before_out=_before_out(history, point, verdict, scaling),
        daytime=history.daytime if policy.learn is None else policy.learn(seen),
    )


def _kept(entries: tuple[Entry, ...], new: Entry, since: float) -> tuple[Entry, ...]:
    """`entries` without those before `since`, or of a clock that has begun anew, and `new`."""
    first: int = max(0, len(entries) + 1 - MOST_POINTS)
    while first < len(entries) and not since <= entries[first].at <= new.at:
        first += 1
    return entries[first:] + (new,)  # noqa: RUF005 - mypy cannot type the other way


def _before_out(history: History, point: Point, verdict: Verdict, scaling: Scaling) -> Point | None:
    """The point that a step out should relieve: this one, the one before, or none (any more)."""
    limit = scaling.out_above.get(MEMORY)
    if verdict.action is Action.IN or limit is None or point.averages.get(MEMORY, limit) <= limit:
        return None
    return point if verdict.action is Action.OUT else history.before_out


__all__ = ["POLICIES", "Policy", "check", "decide", "find", "remember"]
