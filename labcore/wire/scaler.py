"""What the scaler tells: its status and its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from labcore.wire.lab import Mode


class Action(StrEnum):
    """What a decision does to the size of a group."""

    OUT = "out"
    IN = "in"
    HOLD = "hold"


class Health(StrEnum):
    """What the scaler knows of a node by asking it."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class NodeSample:
    """What one agent said, or did not say, in one round of collecting. None: missing or stale."""

    node: str
    cpu_percent: float | None
    memory_percent: float | None
    in_flight: int | None = None


@dataclass(frozen=True)
class Decision:
    """One evaluation of a policy: what it saw, what it wants, why, and what stopped it."""

    seq: int  # rising within one lab, over restarts too
    at: str  # RFC 3339 UTC
    group: str
    policy: str
    action: Action
    current: int  # nodes that serve, boot or are unknown when it was made
    count: int  # nodes there should be
    reasons: tuple[str, ...]  # sentences: the rule, with the figures it was applied to
    vetoes: tuple[str, ...] = ()  # sentences: what kept the rule from having its way
    samples: tuple[NodeSample, ...] = ()
    # averages by metric name, cooldown_remaining_s, booting, draining, unknown, ...
    inputs: Mapping[str, float | None] = field(default_factory=dict)


RemovalStep = Literal["told", "unrouted", "confirmed", "drained", "off"]


@dataclass(frozen=True)
class Removal:
    """A removal in progress. `step` is being made true; see control_node.scaler.removal."""

    node: str
    group: str
    step: RemovalStep
    began_at: str
    reason: str


@dataclass(frozen=True)
class BreakerStatus:
    """No new nodes are made: too many boots in a row failed. One is tried when the time is up."""

    failures: int
    remaining_s: float
    problem: str  # of the last failure


@dataclass(frozen=True)
class GroupStatus:
    """One scaled group."""

    group: str
    mode: Mode
    policy: str
    min: int
    max: int
    desired_count: int
    serving: int
    cooldown_remaining_s: float
    last_decision: Decision | None
    removal: Removal | None
    breaker: BreakerStatus | None = None  # None: nodes are made when they are needed


@dataclass(frozen=True)
class NodeStatus:
    """One agent as the scaler sees it."""

    node: str
    group: str
    health: Health
    in_rotation: bool
    phase: Literal["off", "booting", "serving", "unhealthy", "draining", "standby", "paused"]
    cpu_percent: float | None
    memory_percent: float | None
    in_flight: int | None
    cpu_history: tuple[float, ...] = ()  # the last samples, oldest first, for a sparkline


@dataclass(frozen=True)
class BalancerStatus:
    """The nginx of this control node."""

    generation: str | None  # of the configuration that nginx was seen to answer with
    backends: Mapping[str, tuple[str, ...]]  # group -> nodes in the loaded configuration
    problem: str | None = None


@dataclass(frozen=True)
class ScalerStatus:
    """`GET /status` on the scaler's port."""

    lab: str
    at: str
    manager_reachable: bool
    balancer: BalancerStatus
    groups: tuple[GroupStatus, ...]
    nodes: tuple[NodeStatus, ...]
