"""`predictive`: our own rule: outwards ahead of time and at once, inwards where there is much room.

Demand is what all nodes use together: the end of a straight line (least squares) through its last
LEVEL_S, which takes the noise out without lagging behind. Its growth while a node boots is not
forecast from its trend, which noise makes worthless within the few points there are; it is
remembered: at this time of day, by how much did demand outgrow the level within `boot_s` on
earlier days (see `daytime`)? BELIEVED is the part of that which is provided for.

The group grows at once to what demand needs at `target_percent` after that growth, and `spare`
nodes. It shrinks by one when one fewer would do after the largest growth of the next half hour
and `band` more demand than that: the band between the two costs nodes but spares reversals.
Booting nodes are capacity. Where all CPU is used, demand cannot be seen: SATURATION is assumed.

The constants were chosen on many windows of one trace; docs/policies.md says which, and how the
rule does on days that had no part in the choice.

It sets its own pace, so `cooldown_out_s`, `cooldown_in_s` and `evaluation_periods` do not apply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from control_node.policies import daytime
from control_node.policies.daytime import Growth
from control_node.policies.guards import memory_floor
from control_node.policies.settings import options, within
from control_node.policies.situation import CPU, Proposal, Situation, nodes, percent
from control_node.policies.threshold import high_memory
from control_node.policies.types import Daytime, Wish
from labcore.wire.lab import Scaling

FULL = 97.0  # per cent of CPU from which on there may be more demand than can be measured
SATURATION = 1.5
LEVEL_S = 60.0
BELIEVED = 0.55  # of the largest growth that was seen at this time of day
AHEAD = 2  # so many further slots must be quiet before a node is taken away
ROUNDING = 1e-9  # 3 x 70 / 70 is 3 nodes, not 4


@dataclass(frozen=True)
class PredictiveOptions:
    """What `scaling.options` may hold."""

    target_percent: float = 70.0  # CPU that the group may reach
    boot_s: float = 60.0  # from the decision until a new node serves
    spare: float = 0.08  # of a node, in reserve
    band: float = 0.45  # so much more demand must fit before a node is taken away


def check(scaling: Scaling) -> None:
    """Raise UsageProblem for options that this rule cannot follow."""
    chosen = options(PredictiveOptions, scaling)
    within(chosen.target_percent, "target_percent", 1.0, 100.0)
    within(chosen.boot_s, "boot_s", 0.0, 3600.0)
    within(chosen.spare, "spare", 0.0, 10.0)
    within(chosen.band, "band", 0.0, 10.0)


def points_s(scaling: Scaling) -> float:
    """How long points are needed."""
    return LEVEL_S


def wishes_s(scaling: Scaling) -> float:
    """How long wishes are needed: the oldest is from when a node was begun that serves now."""
    return _ahead_s(scaling) + scaling.interval_s / 2.0


def _ahead_s(scaling: Scaling) -> float:
    """A node that is begun now is felt then: it boots, and the figures are one interval old."""
    return options(PredictiveOptions, scaling).boot_s + scaling.interval_s


def propose(seen: Situation) -> Proposal:
    """What the demand to come needs, at once; or one node fewer where there is much room."""
    level = _level(seen)
    if level is None:
        return Proposal(seen.desired, ("no node has told its CPU",))
    chosen = options(PredictiveOptions, seen.scaling)
    learnt, slot = seen.history.daytime, daytime.slot_of(seen.observation.at)
    growth = daytime.expected(learnt, slot)
    wish = _needed(level, growth.share, chosen)
    reasons: tuple[str, ...] = (_reason(level, growth, wish, chosen),)
    memory = high_memory(seen)
    if memory is not None and not memory.vetoes:
        wish, reasons = max(wish, memory.count), (*reasons, *memory.reasons)
    if wish > seen.desired:
        return Proposal(wish, reasons, wish=wish, demand=level)
    left = seen.desired - 1
    if wish <= left and _would_do(left, seen, level, slot):
        room = f"{nodes(left)} would do for {chosen.band * 100.0:.0f} % more than that"
        return Proposal(left, (*reasons, room), wish=wish, demand=level)
    return Proposal(seen.desired, reasons, wish=wish, demand=level)


def _would_do(count: int, seen: Situation, level: float, slot: int | None) -> bool:
    """Whether `count` nodes have much room, now and after the growth of the next half hour."""
    chosen = options(PredictiveOptions, seen.scaling)
    if _needed(level, 0.0, chosen, chosen.band) > count or memory_floor(seen) > count:
        return False
    growth = daytime.expected(seen.history.daytime, slot, AHEAD)
    return _needed(level, growth.share, chosen, chosen.band) <= count


def _needed(level: float, growth: float, chosen: PredictiveOptions, band: float = 0.0) -> int:
    most = level * (1.0 + BELIEVED * growth + band)
    return math.ceil(most / chosen.target_percent + chosen.spare - ROUNDING)


def _reason(level: float, growth: Growth, wish: int, chosen: PredictiveOptions) -> str:
    known = f"as on earlier days at {growth.slot}" if growth.slot else "a little"
    most = level * (1.0 + BELIEVED * growth.share)
    return (
        f"demand is {level / 100.0:.1f} nodes, {most / 100.0:.1f} if it grows {known} while a "
        f"node boots: at {percent(chosen.target_percent)} each that takes {nodes(wish)}"
    )


def _level(seen: Situation) -> float | None:
    """Demand now, in hundredths of a node: the end of the line through its last LEVEL_S."""
    if CPU not in seen.averages:
        return None
    since = seen.now - LEVEL_S
    count, demands = 1, _demand(seen.averages[CPU], seen.counted)
    times = squares = products = 0.0
    for point in seen.history.points:
        if point.at >= since and CPU in point.averages:
            before, demand = point.at - seen.now, _demand(point.averages[CPU], point.serving)
            count += 1
            times += before
            demands += demand
            squares += before * before
            products += before * demand
    if count < 3:
        return demands / count
    slope = (count * products - times * demands) / (count * squares - times * times)
    return max(0.0, (demands - slope * times) / count)


def _demand(cpu: float, count: int) -> float:
    return cpu * count * (SATURATION if cpu >= FULL else 1.0)


def learn(seen: Situation) -> Daytime:
    """What is known of the times of day after this observation: by how much demand has outgrown
    the level of when a node would have been begun that serves now."""
    if seen.observation.at is None:
        return seen.history.daytime
    learnt = daytime.turn(seen.history.daytime, seen.observation.at)
    begun = _begun(seen)
    if begun is None or begun.slot is None or not begun.demand:
        return learnt
    last = seen.history.points[-1]
    if CPU not in seen.averages or CPU not in last.averages:
        return learnt
    # Of two looks: one alone may be high because of noise.
    now = _demand(seen.averages[CPU], seen.counted)
    now = (now + _demand(last.averages[CPU], last.serving)) / 2.0
    return daytime.note(learnt, begun.slot, now / begun.demand - 1.0)


def _begun(seen: Situation) -> Wish | None:
    """The wish of when a node would have been begun that serves now."""
    if not seen.history.points:
        return None
    then, late_s = seen.now - _ahead_s(seen.scaling), seen.scaling.interval_s / 2.0
    return next((wish for wish in seen.history.wishes if abs(wish.at - then) <= late_s), None)
