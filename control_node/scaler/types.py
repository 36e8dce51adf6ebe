"""What the controller is shown and what it asks for. All values are frozen; it does no I/O itself.

`Controller.step(now, view)` reads a `View` and returns operations. Whoever carries them out (the
runner, or a simulator on a virtual clock) hands each one back as a `Done` in a later view.
Times are monotonic seconds unless they are called `at` and are a datetime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from control_node.balancer.model import Routing
from control_node.balancer.model import View as BalancerView
from control_node.policies.types import History, Observation, Verdict
from labcore.wire.event import Event
from labcore.wire.lab import Lab, Scaling
from labcore.wire.metrics import AgentMetrics

ProbeHealth = Literal["unknown", "ok", "refused", "timeout", "bad"]


@dataclass(frozen=True)
class Probe:
    """What asking one node told, the latest answer of each kind."""

    node: str
    # of its app: not asked yet, 2xx, nobody listens, no answer in time, anything else
    health: ProbeHealth
    failures: int = 0  # answers in a row that were not `ok`
    asked_at: float = 0.0  # when the last answered health question was asked
    reason: str = ""  # why it is not `ok`
    metrics: AgentMetrics | None = None  # the last good sample
    metrics_asked_at: float | None = None  # when the last good sample was asked for
    changed_at: float | None = None  # when `seq` was last seen to change
    metrics_problem: str = ""  # why the last answer gave no sample
    cpu_history: tuple[float, ...] = ()  # of the last samples, oldest first


@dataclass(frozen=True)
class SetCount:
    """Write the desired count of a group. Not to be done if a person wrote one after `decided`,
    which is when the lab was looked at."""

    group: str
    count: int
    decided: float


@dataclass(frozen=True)
class Power:
    """Turn a server on or off, make a standby node of it (booted, not paused yet), or pause that.

    What is standby is resumed by turning it on.
    """

    node: str
    group: str
    to: Literal["on", "off", "standby", "pause"]


@dataclass(frozen=True)
class TellDrain:
    """Tell an agent, at the address of its metrics, that it drains or does not."""

    node: str
    address: str
    draining: bool


@dataclass(frozen=True)
class Submit:
    """Hand a routing to the balancer."""

    routing: Routing


@dataclass(frozen=True)
class Publish:
    """Add an event to the lab's history. The only operation that is never a `Done`."""

    event: Event


Operation: TypeAlias = SetCount | Power | TellDrain | Submit
Step: TypeAlias = Operation | Publish


@dataclass(frozen=True)
class Done:
    """An operation that ended at `ended`; `problem` says why it failed, None: it did not."""

    operation: Operation
    ended: float
    problem: str | None = None
    code: str = ""  # of the LabError behind `problem`


@dataclass(frozen=True)
class View:
    """All that is known when a step begins.

    `lab` is the last one that the server-manager told, `lab_asked` when that was asked for (a
    change that ended later does not show in it), `reachable` whether it answered the last time.
    """

    at: datetime
    lab: Lab | None
    lab_asked: float
    reachable: bool
    balancer: BalancerView
    balancer_asked: float
    probes: MappingProxyType[str, Probe] | dict[str, Probe] = field(default_factory=dict)
    done: tuple[Done, ...] = ()


class Policy(Protocol):
    """What the controller needs of `control_node.policies`; both calls are pure."""

    def decide(
        self, now: float, history: History, observation: Observation, scaling: Scaling
    ) -> Verdict:
        """How many nodes there should be, and why."""
        ...

    def remember(
        self,
        now: float,
        history: History,
        observation: Observation,
        verdict: Verdict,
        scaling: Scaling,
    ) -> History:
        """What to know of this evaluation at the next one."""
        ...
