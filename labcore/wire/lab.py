"""A lab as the server-manager tells it: groups, scaling, balancers, servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Mode = Literal["auto", "manual"]
Viewer = Literal["host", "node"]


class Desired(StrEnum):
    """What a lab should become; written before anything is done about it."""

    UP = "up"
    DOWN = "down"
    DESTROYED = "destroyed"


class LabState(StrEnum):
    """How far a lab is on its way to what is desired."""

    CONVERGING = "converging"
    UP = "up"
    DEGRADED = "degraded"  # up once, but a server that should run does not
    DOWN = "down"
    FAILED = "failed"  # the last convergence ended with an error; `problem` says which


class PowerState(StrEnum):
    """What a driver says of a server when it is asked. Never stored, never guessed."""

    ABSENT = "absent"  # positively not there
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SAVED = "saved"
    STOPPING = "stopping"
    ERROR = "error"  # there, but broken: destroy and make again
    UNKNOWN = "unknown"  # the question failed: counts to the maximum, never creates, never deletes
    LOST = "lost"  # its machine is positively offline: not counted, replaced under a new name


class Wanted(StrEnum):
    """What a server of a lab that is up should be."""

    ON = "on"
    OFF = "off"
    STANDBY = "standby"


@dataclass(frozen=True)
class Scaling:
    """The scaling rules of one group. Thresholds are per cent, keyed by metric name."""

    policy: str = "threshold"
    min: int = 2
    max: int = 5
    interval_s: float = 10.0
    out_above: Mapping[str, float] = field(
        default_factory=lambda: {"cpu_percent": 70.0, "memory_percent": 80.0}
    )  # out when ANY metric is above
    in_below: Mapping[str, float] = field(
        default_factory=lambda: {"cpu_percent": 30.0, "memory_percent": 40.0}
    )  # in when ALL metrics are below
    cooldown_out_s: float = 30.0  # after any change, before the next one outwards
    cooldown_in_s: float = 60.0  # after any change, before the next one inwards
    evaluation_periods: int = 1  # so many intervals in a row must agree
    drain_s: float = 30.0  # cap of a drain, not its length
    standby: int = 0
    removal: Literal["power_off", "destroy"] = "power_off"
    options: Mapping[str, object] = field(default_factory=dict)  # what one policy alone knows


@dataclass(frozen=True)
class Group:
    """Nodes of one role and size in one region. `desired_count` and `mode` live in the registry."""

    name: str
    role: str
    region: str
    desired_count: int
    mode: Mode
    services: tuple[str, ...]
    cpus: float
    memory_mib: int
    scaling: Scaling | None = None  # None: the group has a fixed size


@dataclass(frozen=True)
class Route:
    """Requests whose path begins with `path` go to the nodes of group `to`."""

    path: str
    to: str
    options: tuple[str, ...] = ()  # sse | websocket | static | rate_limit


@dataclass(frozen=True)
class Balancer:
    """One nginx entry, run on every node of `group`, listening on its service `nginx`."""

    name: str
    group: str
    routes: tuple[Route, ...]
    port: int = 80  # inside the node
    tls: bool = False


@dataclass(frozen=True)
class Server:
    """What the server-manager sees of a node: one VM, container or process set."""

    name: str
    lab: str
    group: str
    role: str
    region: str
    index: int
    wanted: Wanted
    state: PowerState
    # viewer ("host", "node") -> service -> "address:port"; a service that a driver does not
    # offer (ssh under `local`) is not there
    endpoints: Mapping[str, Mapping[str, str]]
    cpus: float
    memory_mib: int
    operation: str | None = None  # what is being done to it now: create, start, stop, ...
    problem: str | None = None  # why the last operation failed
    member: str | None = None  # the machine of a cluster it runs on


@dataclass(frozen=True)
class AdoptedNode:
    """A machine of somebody else that became a node, and that can be given its seed now."""

    node: str
    machine: str  # as its back end calls it
    id: str  # the back end's own for it
    hardware_id: str  # the one that the machine sees itself
    ssh_port: int  # of 127.0.0.1


@dataclass(frozen=True)
class LabElsewhere:
    """A lab that its back end shows, and that another user or another state directory has."""

    lab: str
    driver: str
    servers: int  # that are to be seen


@dataclass(frozen=True)
class Lab:
    """`GET /api/v1/labs/{lab}`: all that labctl and the scaler need to know of a lab."""

    lab: str
    driver: str
    desired: Desired
    state: LabState
    created_at: str
    groups: tuple[Group, ...]
    balancers: tuple[Balancer, ...]
    servers: tuple[Server, ...]
    load_balancer_url: str | None  # as the host sees it
    scaler_url: str | None  # as the host sees it
    problem: str | None = None
    adopted: bool = False  # its machines are somebody else's: `destroy` releases them
    boot_limit_s: float = 0.0  # how long a server may take to be healthy; 0: nobody knows

    def group(self, name: str) -> Group | None:
        """The group of that name, if there is one."""
        return next((g for g in self.groups if g.name == name), None)

    def members(self, group: str) -> tuple[Server, ...]:
        """The servers of a group, by index."""
        return tuple(sorted((s for s in self.servers if s.group == group), key=lambda s: s.index))
