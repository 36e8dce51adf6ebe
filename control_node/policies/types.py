"""What a policy is given and what it answers: frozen values; times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labcore.wire.scaler import Action, NodeSample


@dataclass(frozen=True)
class Observation:
    """One look at a group. Booting nodes are capacity to come, draining ones are not capacity."""

    samples: tuple[NodeSample, ...]  # of the serving nodes; None in it: missing or stale
    desired: int  # the count that is wished for now
    booting: int = 0  # wanted on, not serving yet
    draining: int = 0
    unknown: int = 0  # the driver does not know: counts to the maximum, never to capacity
    at: datetime | None = None  # the time of day, aware; only policy `schedule` needs it
    others: int = (
        0  # serving nodes of a large group that were not asked: the samples are theirs too
    )


@dataclass(frozen=True)
class Point:
    """What is remembered of one observation: averages over the nodes that answered."""

    at: float
    averages: Mapping[str, float]  # metric name ("cpu_percent", ...) -> mean
    serving: int
    answered: int  # nodes of which no metric is missing
    in_flight: int
    desired: int  # the count that was wished for after it


@dataclass(frozen=True)
class Wish:
    """The count a rule asked for before vetoes and limits; and what it made of the demand."""

    at: float
    count: int
    demand: float | None = None
    slot: int | None = None  # of the day; see control_node.policies.daytime


@dataclass(frozen=True)
class Daytime:
    """What is known of the times of day: slot ("15:50") -> growth of demand there, as a share."""

    day: int = 0  # of `today`
    today: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What a policy remembers from one evaluation to the next; saved over a scaler restart."""

    points: tuple[Point, ...] = ()  # oldest first, bounded
    last_out_at: float | None = None
    last_in_at: float | None = None
    wishes: tuple[Wish, ...] = ()  # oldest first, bounded
    last_active: Point | None = None  # the last one with any CPU use: what silence is held against
    before_out: Point | None = None  # what the last step out should relieve, until it did
    daytime: Daytime = field(default_factory=Daytime)


@dataclass(frozen=True)
class Verdict:
    """What a policy says: `count` nodes, because of `reasons`, unless `vetoes`.

    `action` is what remains after the vetoes; `count` equals `Observation.desired` for HOLD.
    Reasons and vetoes are sentences a student understands, with the figures in them.
    """

    action: Action
    count: int
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...] = ()
    inputs: Mapping[str, float | None] = field(default_factory=dict)
    wish: int | None = None  # the count the rule asked for before vetoes and limits
    demand: float | None = None  # what the rule made of it


__all__ = ["Action", "Daytime", "History", "NodeSample", "Observation", "Point", "Verdict", "Wish"]
