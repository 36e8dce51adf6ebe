"""All that was seen of one run: enough to draw its report again. JSON through labcore.codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labcore.wire.event import Event
from labcore.wire.lab import Scaling
from labcore.wire.scaler import ScalerStatus
from labctl.load.types import LoadReport


@dataclass(frozen=True)
class NodePoint:
    """One agent at one moment, as the scaler saw it."""

    node: str
    phase: str  # labcore.wire.scaler.NodeStatus.phase
    in_rotation: bool
    cpu_percent: float | None = None


@dataclass(frozen=True)
class Sample:
    """The scaled group at one moment."""

    at: str  # RFC 3339 UTC
    desired: int
    serving: int
    nodes: tuple[NodePoint, ...]


@dataclass(frozen=True)
class Mark:
    """A moment that the run names: "the load starts"."""

    at: str  # RFC 3339 UTC
    name: str  # for programs: load-starts, load-stops, ...
    text: str


@dataclass(frozen=True)
class Recording:
    """One run from its first command to its last answer, before it was torn down."""

    title: str
    lab: str
    driver: str
    group: str  # the scaled one
    began_at: str  # RFC 3339 UTC
    ended_at: str
    scaling: Scaling
    settings: tuple[str, ...] = ()  # FIELD=VALUE as `--set` takes them
    machine: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    samples: tuple[Sample, ...] = ()
    marks: tuple[Mark, ...] = ()
    load: LoadReport | None = None
    problem: str | None = None  # why it did not come to its end


def take_sample(status: ScalerStatus, group: str) -> Sample:
    """What a report keeps of one answer of the scaler."""
    found = next((g for g in status.groups if g.group == group), None)
    return Sample(
        at=status.at,
        desired=found.desired_count if found else 0,
        serving=found.serving if found else 0,
        nodes=tuple(
            NodePoint(n.node, n.phase, n.in_rotation, n.cpu_percent)
            for n in status.nodes
            if n.group == group
        ),
    )
