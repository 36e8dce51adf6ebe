"""What may stand in a lab file: pydantic models, every field but `lab` with its default.

Models hold what the file says; what follows from leaving something out (a group's services, the
group that is scaled, the balancer) is answered by the methods here, so that a file written back
says no more than it did. Fields and defaults are those of the contract, docs/lab-file.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from labcore.names import NAME_PATTERN
from labcore.wire.lab import Mode
from server_manager.labspec import MOST_AGENTS

# Those of control_node.policies, which this package may not import; a test compares them.
Policy = Literal["threshold", "memory", "target", "predictive", "schedule", "manual"]
DEFAULT_REGION = "main"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Role = Literal["control", "agent"]
RouteOption = Literal["sse", "websocket", "static", "rate_limit"]

_SERVICES: dict[str, list[str]] = {"control": ["nginx", "scaler"], "agent": ["metrics", "app"]}


class Part(BaseModel):
    """What all parts share: unknown fields and wrong types are refused, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Scaling(Part):
    """When a group grows and shrinks. Thresholds are keyed by metric name."""

    group: Name | None = Field(default=None, description="the group it is about (top level only)")
    mode: Mode = Field(default="auto", description="who decides the count: the policy, or people")
    min: int = Field(default=2, ge=0, le=MOST_AGENTS, description="never fewer nodes")
    max: int = Field(default=5, ge=1, le=MOST_AGENTS, description="never more nodes")
    interval_s: float = Field(
        default=10.0, gt=0, le=3600, description="seconds between evaluations"
    )
    policy: Policy = Field(
        default="threshold", description="the rules from which the scaler decides"
    )
    out: dict[Metric, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"cpu_percent": 70.0, "memory_percent": 80.0},
        description="one node more when ANY metric is above",
    )
    in_: dict[Metric, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"cpu_percent": 30.0, "memory_percent": 40.0},
        alias="in",
        description="one node fewer when ALL metrics are below",
    )
    cooldown_out_s: float = Field(
        default=30.0, ge=0, description="seconds after a change, before growing"
    )
    cooldown_in_s: float = Field(
        default=60.0, ge=0, description="seconds after a change, before shrinking"
    )
    evaluation_periods: int = Field(
        default=1, ge=1, le=100, description="evaluations in a row that agree"
    )
    drain_s: float = Field(default=30.0, ge=0, le=3600, description="the longest a drain may take")
    standby: int = Field(default=0, ge=0, le=MOST_AGENTS, description="paused agents kept ready")
    removal: Literal["power_off", "destroy"] = Field(
        default="power_off", description="what becomes of it"
    )
    options: dict[str, object] = Field(
        default_factory=dict, description="what only this policy knows"
    )


class Group(Part):
    """Nodes of one role and size, in one region."""

    name: Name
    role: Role = "agent"
    region: Name | None = Field(default=None, description="default: the first region")
    count: int | None = Field(
        default=None, ge=0, le=MOST_AGENTS, description="nodes at creation; default: min, or 1"
    )
    cpus: float = Field(default=1.0, gt=0, le=256)
    memory_mib: int = Field(default=512, ge=16, le=1024 * 1024)
    services: list[str] | None = Field(default=None, description="default: those of the role")
    scaling: Scaling | None = Field(default=None, description="default: a group of fixed size")

    @property
    def service_names(self) -> tuple[str, ...]:
        """The services of each node, by name."""
        return tuple(_SERVICES[self.role] if self.services is None else self.services)


class Route(Part):
    """Requests whose path begins with `path` go to the nodes of group `to`."""

    path: str = Field("/", pattern=r"^/[A-Za-z0-9._~/-]*$")
    to: Name
    options: list[RouteOption] = Field(default_factory=list)


class Balancer(Part):
    """One nginx entry on every node of `group`."""

    name: Name | None = Field(default=None, description="default: the name of its group")
    group: Name
    port: Port = 80
    tls: bool = False
    routes: list[Route] = Field(min_length=1)


class Link(Part):
    """How far away another region is."""

    latency_ms: float = Field(default=0.0, ge=0, le=60_000)
    loss_percent: float = Field(default=0.0, ge=0, le=100)


class Region(Part):
    """A place where nodes are."""

    name: Name
    links: dict[Name, Link] = Field(default_factory=dict)


class App(Part):
    """The program that agents serve: the demo app, or a command or a container image."""

    command: str | None = Field(default=None, min_length=1, description="replaces the demo app")
    image: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$",
        description="a container image, likewise; `image build --app-image` puts it into VMs",
    )
    port: Port = 5000
    env: dict[str, str] = Field(
        default_factory=dict, description="reaches the app; secret:NAME reads a 0600 file"
    )


def _default_groups() -> list[Group]:
    return [Group(name="control", role="control"), Group(name="agent", role="agent")]


class Incus(Part):
    """Where in Incus the servers of the lab are made: driver incus only."""

    remote: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="as `incus remote list` has it, else that of `incus remote switch`",
    )
    project: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="keeps labs of different users apart",
    )
    profile: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="gives servers their disk, and their network if `network` does not",
    )
    network: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="of Incus, or a bridge of its machines (default: that of the profile)",
    )
    addresses: str | None = Field(
        default=None,
        pattern=r"^[0-9.]+-[0-9.]+/[0-9]{1,2}$",
        description="free ones, where Incus hands out none: 10.78.0.100-10.78.0.199/24",
    )
    type: Literal["container", "vm"] = Field(
        default="container", description="system containers, or virtual machines"
    )
    placement: str = Field(
        default="spread",
        pattern=r"^(spread|pack|member:[A-Za-z0-9][A-Za-z0-9._-]{0,62})$",
        description="on a cluster: spread, pack, or member:NAME",
    )
    regions: dict[Name, Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]] = (
        Field(default_factory=dict, description="which cluster group a region is")
    )
    config: str | None = Field(
        default=None, pattern=r"^/", description="the Incus client's own folder, if not the user's"
    )


class LabFile(Part):
    """One lab, as people write it."""

    lab: Name
    driver: Literal["auto", "local", "virtualbox", "incus", "fake"] = "auto"
    groups: list[Group] = Field(default_factory=_default_groups, min_length=1)
    # null: no group is scaled
    scaling: Scaling | None = Field(default_factory=Scaling)
    balancers: list[Balancer] = Field(default_factory=list)
    regions: list[Region] = Field(default_factory=list)
    app: App = Field(default_factory=App)
    image: Name | None = Field(
        default=None, description="What its servers are cloned from (default: the newest image)."
    )
    network: Literal["internal", "nat"] = Field(
        default="internal", description="between virtual machines"
    )
    boot_limit_s: float | None = Field(
        default=None, gt=0, le=86_400, description="of a node, until it is healthy"
    )
    incus: Incus | None = Field(default=None, description="for driver incus")

    def scaled_group(self) -> str | None:
        """The group that the top-level `scaling` is about; None if it is about none.

        Without `group` it is `agent`, or the only group of role agent; if the file does not write
        `scaling` at all, groups that have their own stay as they are.
        """
        if self.scaling is None:
            return None
        written = "scaling" in self.model_fields_set
        if self.scaling.group is not None:
            return self.scaling.group
        if not written and any(group.scaling for group in self.groups):
            return None
        agents = [group.name for group in self.groups if group.role == "agent"]
        if "agent" in agents:
            return "agent"
        return agents[0] if len(agents) == 1 else None

    def scaling_of(self, group: Group) -> Scaling | None:
        """The scaling rules of a group; None: it has a fixed size."""
        return self.scaling if group.name == self.scaled_group() else group.scaling

    def count_of(self, group: Group) -> int:
        """How many nodes a group has when it is created."""
        if group.count is not None:
            return group.count
        scaling = self.scaling_of(group)
        return 1 if scaling is None else scaling.min

    def region_of(self, group: Group) -> str:
        """The region of a group."""
        return group.region or (self.regions[0].name if self.regions else DEFAULT_REGION)
