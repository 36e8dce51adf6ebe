"""`predictive`: our own rule: outwards at once and ahead of time, inwards late and one by one.

Demand is what all nodes use together. A straight line through its last `trend_s` (least squares)
says what it will be when a node that is begun now serves, `boot_s` and one interval from now; the
group grows at once to what the larger of that and the present demand needs at `target_percent`,
and `spare` nodes. Booting nodes are capacity. Where all CPU is used, demand cannot be seen:
SATURATION is assumed.

It shrinks by one node in the cases of `ROOM`: the more room there is, the sooner. Between growing
and shrinking lies a wide band of load (hysteresis), which costs nodes but spares reversals.

The constants are fitted to one trace (WorldCup98, 10-27 June 1998, 10-22 h, 6 times faster), out of
several thousand settings; docs/policies.md says what they are worth on other parts of it.

It sets its own pace, so `cooldown_out_s`, `cooldown_in_s` and `evaluation_periods` do not apply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from control_node.policies.guards import memory_floor
from control_node.policies.settings import options, within
from control_node.policies.situation import CPU, Proposal, Situation, nodes, percent
from control_node.policies.threshold import high_memory
from labcore.wire.lab import Scaling

FULL = 97.0  # per cent of CPU from which on there may be more demand than can be measured
SATURATION = 1.5
TREND_SHARE = 0.8  # of the trend that is believed: a line through noise overshoots
LEVEL_SHARE = 0.5  # of trend_s: demand is averaged over it before a node is taken away
ROUNDING = 1e-9  # 3 x 70 / 70 is 3 nodes, not 4


@dataclass(frozen=True)
class Room:
    """One node fewer if `fewer` nodes less would still be at or below `share` of the target."""

    fewer: int
    share: float
    settled: float  # times settle_s that the last step outwards must be ago
    # Also no more nodes asked for than those left in all that time, be it only by the forecast.
    unasked: bool = False


ROOM = (Room(2, 0.79, 0.2), Room(1, 0.66, 1.0), Room(1, 0.79, 2.0, unasked=True))


@dataclass(frozen=True)
class PredictiveOptions:
    """What `scaling.options` may hold."""

    target_percent: float = 70.0  # CPU that the group may reach
    boot_s: float = 60.0  # from the decision until a new node serves
    trend_s: float = 120.0  # the past that the line is drawn through
    spare: float = 0.15  # of a node, in reserve
    settle_s: float = 600.0  # how long a step outwards is held; see ROOM


def check(scaling: Scaling) -> None:
    """Raise UsageProblem for options that this rule cannot follow."""
    chosen = options(PredictiveOptions, scaling)
    within(chosen.target_percent, "target_percent", 1.0, 100.0)
    within(chosen.spare, "spare", 0.0, 10.0)
    for name in ("boot_s", "trend_s", "settle_s"):
        within(getattr(chosen, name), name, 0.0, 3600.0)


def points_s(scaling: Scaling) -> float:
    """How long points are needed."""
    return options(PredictiveOptions, scaling).trend_s


def wishes_s(scaling: Scaling) -> float:
    """How long wishes are needed."""
    return options(PredictiveOptions, scaling).settle_s * max(room.settled for room in ROOM)


def propose(seen: Situation) -> Proposal:
    """What the demand to come needs, at once; or one node fewer where there is room."""
    chosen = options(PredictiveOptions, seen.scaling)
    past = _past(seen, chosen.trend_s)
    if not past:
        return Proposal(seen.desired, ("no node has told its CPU",))
    now = past[-1][1]
    ahead_s = chosen.boot_s + seen.scaling.interval_s
    spans = seen.now - past[0][0] >= chosen.trend_s - 1.5 * seen.scaling.interval_s
    coming = max(now, _forecast(past, ahead_s) if spans and len(past) > 2 else now)
    wish = math.ceil(coming / chosen.target_percent + chosen.spare - ROUNDING)
    reason = (
        f"demand is {now / 100.0:.1f} nodes and may be {coming / 100.0:.1f} in {ahead_s:.0f} s: "
        f"at {percent(chosen.target_percent)} each that takes {nodes(wish)}"
    )
    reasons: tuple[str, ...] = (reason,)
    memory = high_memory(seen)
    if memory is not None and not memory.vetoes:
        wish, reasons = max(wish, memory.count), (reason, *memory.reasons)
    if wish > seen.desired:
        return Proposal(wish, reasons)
    return _inwards(seen, chosen, past, Proposal(seen.desired, reasons, wish=wish))


def _past(seen: Situation, trend_s: float) -> list[tuple[float, float]]:
    """Demand in hundredths of a node over the trend's time, oldest first, the present one last."""
    if CPU not in seen.averages:
        return []
    since = seen.now - trend_s
    past = [
        (point.at, _demand(point.averages[CPU], point.serving))
        for point in seen.history.points
        if point.at > since and CPU in point.averages
    ]
    past.append((seen.now, _demand(seen.averages[CPU], seen.counted)))
    return past


def _demand(cpu: float, count: int) -> float:
    return cpu * count * (SATURATION if cpu >= FULL else 1.0)


def _forecast(past: list[tuple[float, float]], ahead_s: float) -> float:
    """Where the least-squares line through `past` is now, and the believed part of its rise."""
    now = past[-1][0]
    times = demands = squares = products = 0.0
    for at, demand in past:
        before = at - now
        times += before
        demands += demand
        squares += before * before
        products += before * demand
    count = len(past)
    slope = (count * products - times * demands) / (count * squares - times * times)
    here = (demands - slope * times) / count
    return here + TREND_SHARE * max(0.0, slope) * ahead_s


def _inwards(
    seen: Situation,
    chosen: PredictiveOptions,
    past: list[tuple[float, float]],
    hold: Proposal,
) -> Proposal:
    left = seen.desired - 1
    if hold.wish is None or hold.wish > left or left < memory_floor(seen):
        return hold
    since = seen.now - LEVEL_SHARE * chosen.trend_s
    lately = [demand for at, demand in past if at > since]
    level = sum(lately) / len(lately)
    for room in ROOM:
        most = room.share * chosen.target_percent * (seen.desired - room.fewer)
        enough = seen.desired - room.fewer >= seen.scaling.min and level <= most
        if enough and _settled(seen, room, chosen.settle_s):
            reason = f"{nodes(left)} would be at {percent(level / left)} of CPU" if left else ""
            reasons = (*hold.reasons, *filter(None, [reason]))
            return Proposal(left, reasons, wish=hold.wish)
    return hold


def _settled(seen: Situation, room: Room, settle_s: float) -> bool:
    since = seen.now - room.settled * settle_s
    if seen.last_out_at is not None and seen.last_out_at >= since:
        return False
    if not room.unasked:
        return True
    return all(wish.count < seen.desired for wish in seen.history.wishes if wish.at >= since)
