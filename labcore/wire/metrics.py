"""What an agent says of itself: `GET /metrics` on its metrics port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Memory:
    """Bytes, and per cent used, of the node."""

    total: int
    available: int
    percent: float


@dataclass(frozen=True)
class AgentMetrics:
    """One sample. `seq` rises with every sample taken: an unchanged `seq` is a stale sample."""

    cpu: float  # per cent of the node's CPUs, mean of the last 5 s
    memory: Memory
    status: Literal["active", "draining"]
    node: str
    seq: int
    uptime_s: float
    in_flight: int | None  # requests the app is working on; None: the app does not say
    gauges: Mapping[str, float] = field(default_factory=dict)  # what the app exports besides
