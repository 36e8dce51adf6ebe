"""What earlier days taught: by how much demand grew while a node booted, at each time of day.

A day has 144 slots of ten minutes. Of each the largest growth of the day is noted; at the end of
the day it replaces what was remembered, unless that is larger: older days fade, but do not vanish.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from control_node.policies.types import Daytime

SLOTS = tuple(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in range(0, 24 * 60, 10))
UNKNOWN = 0.2  # of a slot that was never seen: demand may grow by a fifth
FADE = 0.8  # of what was remembered, each day
MOST = 1.0  # to grow by more than double is an accident, not a habit


class Growth(NamedTuple):
    """By how much demand may grow, as a share; where that is known, which slot says so."""

    share: float
    slot: str = ""


def slot_of(at: datetime | None) -> int | None:
    """The number of the slot of a time of day."""
    return None if at is None else at.hour * 6 + at.minute // 10


def expected(learnt: Daytime, slot: int | None, ahead: int = 0) -> Growth:
    """The growth to expect in a slot, or in the worst of it and the next `ahead` ones."""
    if slot is None:
        return Growth(UNKNOWN)
    names = [SLOTS[(slot + more) % len(SLOTS)] for more in range(ahead + 1)]
    before = learnt.before
    return max(Growth(before[n], n) if n in before else Growth(UNKNOWN) for n in names)


def turn(learnt: Daytime, at: datetime) -> Daytime:
    """What is known on the day of `at`."""
    day = at.toordinal()
    return learnt if day == learnt.day else Daytime(day, {}, {**learnt.before, **_faded(learnt)})


def note(learnt: Daytime, slot: int, share: float) -> Daytime:
    """After demand has grown by `share` (0.1: a tenth) since a moment in `slot`."""
    name = SLOTS[slot]
    known = learnt.today.get(name)
    if known is not None and share <= known:
        return learnt
    today = {**learnt.today, name: max(0.0, min(MOST, share))}
    return Daytime(learnt.day, today, learnt.before)


def _faded(learnt: Daytime) -> Mapping[str, float]:
    """What is remembered after the day, of the slots that it had."""
    before = learnt.before
    return {
        name: max(FADE * before.get(name, UNKNOWN), share) for name, share in learnt.today.items()
    }
