"""Whom to log in to: an address, a user, a key, and the host key that must answer there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from labcore.errors import Conflict, UsageProblem
from labcore.web import split_address
from labcore.wire.lab import Lab, PowerState, Server
from server_manager.paths import StatePaths
from server_manager.ssh_keys import USER_KEY, host_key_of

_SILENT = (PowerState.STOPPED, PowerState.ABSENT, PowerState.PAUSED, PowerState.SAVED)
LOGIN_USER = "lab"  # of every guest: keys only, sudo without a password


@dataclass(frozen=True)
class Pinned:
    """The host key is known beforehand; any other is refused."""

    public: str  # its line: type and key


@dataclass(frozen=True)
class Learned:
    """The host key is that in `file`; the first that ever answers is written there.

    Only for loopback, and for machines that we have just made ourselves and whose key nobody
    could know: builders of images, VMs of Vagrant.
    """

    file: Path


@dataclass(frozen=True)
class Limits:
    """How long each part of a login may take. A guest may be fifty times as slow as a laptop."""

    connect_s: float = 10.0
    banner_s: float = 60.0
    handshake_s: float = 90.0
    auth_s: float = 60.0
    idle_s: float = 120.0  # without one byte moving while something is copied


@dataclass(frozen=True)
class Endpoint:
    """One machine, as somebody who may log in sees it. `name` stands in messages."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    trust: Pinned | Learned
    limits: Limits = field(default_factory=Limits)

    @property
    def address(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"


def of_node(paths: StatePaths, lab: Lab, server: Server) -> Endpoint:
    """How to log in to a node. Raises NotFound without a key, Conflict without an address."""
    host, port = address_of(lab, server)
    return Endpoint(
        server.name,
        host,
        port,
        LOGIN_USER,
        paths.ssh(lab.lab) / USER_KEY,
        Pinned(host_key_of(paths.ssh, lab.lab, server.name)),
    )


def check_is_on(lab: Lab, server: Server) -> None:
    """Raise Conflict if it is positively off or frozen: nobody would answer."""
    if server.state in _SILENT:
        again = "resume" if server.state is PowerState.PAUSED else "start"
        raise Conflict(
            f"{lab.lab}/{server.name} is {server.state}: nobody answers SSH there",
            f"labctl {again} {server.name} --lab {lab.lab}",
        )


def address_of(lab: Lab, server: Server) -> tuple[str, int]:
    """Where its sshd is, as this machine sees it. Raises Conflict if it has no address."""
    address = server.endpoints.get("host", {}).get("ssh")
    if address is None:
        raise Conflict(
            f"{lab.lab}/{server.name} is {server.state}: it has no SSH address",
            f"labctl start {server.name} --lab {lab.lab}",
        )
    return split_address(address)


def check_learnable(endpoint: Endpoint) -> None:
    """Raise UsageProblem if a host key would be learned from anywhere but this machine."""
    try:
        local = ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        local = endpoint.host == "localhost"
    if not local:
        raise UsageProblem(
            f"{endpoint.name}: the host key of {endpoint.host} is not known",
            "give it; only keys of machines behind loopback are learned",
        )
