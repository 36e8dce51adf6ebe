"""What the core asks of a back end, and what every back end promises (tests/contract runs it).

* create, start, stop and destroy are idempotent: doing what is done succeeds at once.
* Every call is bounded in time; nothing inside waits for a node to be *ready*: callers do.
* Only LabError leaves a driver, with its cause and what to do.
* `get` answers ABSENT only when the server is positively not there, UNKNOWN when asking failed.
* `servers` never fails for one bad server: that one is ERROR or UNKNOWN, with its problem.
* A driver never prints, reads no environment, keeps no cache of states, and touches nothing that
  does not carry the id of the server it was asked about.
* The core asks `capabilities()`, never for a driver's name.

Calls on one server are never made at the same time (the core holds a lock per server); calls on
different servers are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from labcore.services import Service
from labcore.wire.lab import PowerState
from labcore.wire.node import NodeConfig


@dataclass(frozen=True)
class DriverHealth:
    """Whether a driver can be used here; `reason` and `fix` are sentences when it cannot."""

    ok: bool
    version: str = ""
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class ImageSupport:
    """Capability `images`: how they come to be; the protocol is in `drivers/imaging.py`."""

    source: Literal["disk", "name"]  # made from a disk file, or from an image of its own
    provisioned_by: Literal["ssh", "driver"]  # labctl logs in, or `provision_builder` does it
    default: str = ""  # the source if nobody names one; "": the cloud image labctl knows
    required: bool = True  # servers are made from nothing else
    live: bool = False  # see LiveMaking


@dataclass(frozen=True)
class Capabilities:
    """What a driver can do, and how its nodes differ. Constant while the process lives."""

    shares_host_network: bool  # nodes listen on the documented host ports themselves
    scope: Literal["tree", "system", "container"]  # see NodeConfig.scope
    access: Literal["local", "ssh"]  # how exec, logs and cp reach a node
    gates: tuple[str, ...]  # in order, of created, booted, configured, ssh, healthy, serving
    boot_limit_s: float  # start to healthy, before it is called a failure
    look_s: float = 0.0125  # between the first looks at one that boots; in the end 20 times that
    pause: bool = False
    snapshot: bool = False
    console_log: bool = False
    adopt: bool = False  # see drivers/adopting.py
    members: bool = False  # servers are spread over several machines
    images: ImageSupport | None = None


@dataclass(frozen=True)
class ServerRef:
    """Which server. `id` is ours (a UUID made when it entered the registry) and decides."""

    lab: str
    name: str
    id: str


@dataclass(frozen=True)
class Forward:
    """A documented host port that leads to a service of a node."""

    service: str  # or "ssh"
    host_port: int
    node_port: int


@dataclass(frozen=True)
class SshIdentity:
    """Who a guest is to SSH, and whom it lets in. Made by us before it boots: nothing to trust
    on first use. Keys are ed25519: private ones as OpenSSH files, public ones as their lines."""

    host_key: str = field(repr=False)
    host_public: str
    authorized: tuple[str, ...]  # who may log in
    client_key: str | None = field(default=None, repr=False)  # with which it reaches others
    known_hosts: tuple[str, ...] = ()  # of those others, by node name
    ports: Mapping[str, int] = field(default_factory=dict)  # of the host, that lead to them


@dataclass(frozen=True)
class ServerSpec:
    """All that a driver needs to make a server. Equal specs make equal servers."""

    ref: ServerRef
    group: str
    role: str
    region: str
    cpus: float
    memory_mib: int
    services: tuple[Service, ...]
    forwards: tuple[Forward, ...]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> content
    manager_port: int | None = None  # for nodes that may talk to the server-manager
    image: str | None = None  # the handle that `finish_image` gave
    number: int = 1  # 1..9999, its own in its lab: what static addresses are made from
    network: Literal["internal", "nat"] = "internal"  # how nodes reach each other, where asked
    ssh: SshIdentity | None = None  # None where `access` is "local"
    host_ports: tuple[int, ...] = ()  # besides manager_port, which it may reach on the host


@dataclass(frozen=True)
class DriverServer:
    """What a driver says of one server now."""

    ref: ServerRef
    state: PowerState
    # viewer ("host", "node") -> service -> "address:port"; empty where nothing is known
    endpoints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problem: str | None = None  # why it is ERROR or UNKNOWN, or why it stopped by itself
    fix: str = ""  # what mends that problem, if a person has to
    member: str | None = None
    directory: Path | None = None  # where its files are on this machine, if they are


def may_take_over(one: ServerSpec, other: ServerSpec) -> bool:
    """Whether `create` takes `other` over for a server made from `one`: it differs only in what
    is told anew at every start, ports and who else is in the lab."""
    return lasting(one) == lasting(other)


def lasting(spec: ServerSpec) -> ServerSpec:
    """The part of a spec that a server keeps as long as it lives."""
    ssh = spec.ssh and dataclasses.replace(spec.ssh, known_hosts=(), ports={})
    return dataclasses.replace(spec, forwards=(), host_ports=(), ssh=ssh)


def sealed(spec: ServerSpec) -> ServerSpec:
    """The spec with digests in place of its secrets: comparable, and nothing to steal."""
    ssh = spec.ssh
    if ssh is not None:
        client = None if ssh.client_key is None else _digest(ssh.client_key)
        ssh = dataclasses.replace(ssh, host_key=_digest(ssh.host_key), client_key=client)
    secrets = {name: _digest(content) for name, content in spec.secrets.items()}
    return dataclasses.replace(spec, secrets=secrets, ssh=ssh)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Driver(Protocol):
    """A back end. See the module for the promises."""

    name: str

    def health(self) -> DriverHealth:
        """Whether it can be used on this machine now."""
        ...

    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def create(self, spec: ServerSpec) -> None:
        """Make a stopped server. The same spec again: nothing. Another spec: raises Conflict, but
        one that `may_take_over` is taken over, from the next start on."""
        ...

    def start(self, ref: ServerRef) -> None:
        """Begin booting (resume a paused or saved one). Raises NotFound if it does not exist."""
        ...

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        """Power off; services get their grace time unless `force`. Absent or stopped: nothing."""
        ...

    def destroy(self, ref: ServerRef) -> None:
        """Stop it and remove everything of it: processes, disks, folders. Absent: nothing."""
        ...

    def get(self, ref: ServerRef) -> DriverServer:
        """Its state now. Never raises for a missing server: that is ABSENT."""
        ...

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        """All servers of a lab that this back end knows of, ours by their marks."""
        ...


class Pausing(Protocol):
    """Capability `pause`."""

    def pause(self, ref: ServerRef) -> None:
        """Freeze a running server; paused already: nothing. Raises Conflict if it is off."""
        ...

    def resume(self, ref: ServerRef) -> None:
        """Go on where it was frozen; running already: nothing. Raises Conflict if it is off."""
        ...


@dataclass(frozen=True)
class Stray:
    """A machine of a back end that was made by labctl for a lab that is not known here."""

    name: str
    lab: str
    remove: str  # the command that removes it


@runtime_checkable
class StrayFinding(Protocol):
    """What a driver can whose machines outlive our files."""

    def strays(self, labs: Collection[str]) -> tuple[Stray, ...]:
        """The machines whose marks are ours, but whose lab is none of `labs`. Changes nothing."""
        ...


class ConsoleLog(Protocol):
    """Capability `console_log`."""

    def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
        """The last lines of a service's log (None: of all that it prints while it boots).

        Where `access` is "ssh", the logs of services are in the guest, and what `source` names is
        the driver's own. Raises NotFound for a source that there is not.
        """
        ...


def node_config(
    spec: ServerSpec, *, directory: str, capabilities: Capabilities, nginx: str, manager_host: str
) -> NodeConfig:
    """The node config of a server whose files live in `directory` (as the node sees it)."""
    shared = capabilities.shares_host_network
    return NodeConfig(
        lab=spec.ref.lab,
        node=spec.ref.name,
        group=spec.group,
        role=spec.role,
        region=spec.region,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        scope=capabilities.scope,
        directory=directory,
        listen={
            f.service: f"127.0.0.1:{f.host_port}" if shared else f"0.0.0.0:{f.node_port}"
            for f in spec.forwards
            if f.service != "ssh"
        },
        secrets={name: f"{directory}/secrets/{name}" for name in spec.secrets},
        manager_url=f"http://{manager_host}:{spec.manager_port}" if spec.manager_port else None,
        nginx=nginx,
    )
