"""How a guest is reached, as its back end has arranged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GuestNetwork:
    """What differs between back ends in the network of a guest."""

    manager_host: str  # the server-manager's host as the guest reaches it: an IP address
    names: tuple[str, ...]  # by which others address the guest: Host headers that are answered
    sources: tuple[str, ...]  # networks (CIDR) from which the lab's ports may be reached
    address: str | None = None  # "10.93.0.11/16", to be set on the interface with `mac`
    mac: str | None = None  # "08:00:27:..."; None: the guest's addresses are not ours to set
    # node name -> "host:port" of its sshd, for `ssh NAME` inside; those that are known
    peers: Mapping[str, str] = field(default_factory=dict)
