"""How drivers take machines over that others have made: capability `adopt`, promised like all else
in `drivers/base.py`.

An adopted machine's disks and settings stay its maker's. The core never calls `create` or
`destroy` for one: it is started, stopped and looked at like any other, and released in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.guest.seed import Seed


@dataclass(frozen=True)
class OutsideMachine:
    """A machine as its back end describes it, whoever made it."""

    id: str  # the back end's own for it; the server's id once it is adopted
    hardware_id: str  # the one that it sees itself
    name: str
    state: PowerState
    cpus: float
    memory_mib: int
    forwards: Mapping[int, int]  # port in the machine -> port of the host's loopback
    network: str  # the name of the internal network that it is in; "" for none
    reaches_host: bool  # and with it the server-manager, which control nodes need


class Adopting(Protocol):
    """Capability `adopt`."""

    def outside(self, machine: str) -> OutsideMachine:
        """The machine of that name or id. Raises NotFound, and Conflict for one that this driver
        made itself."""
        ...

    def adopt(self, spec: ServerSpec) -> None:
        """Put our marks on the machine whose id is that of `spec`; from then on it is the server.

        Again: nothing. Raises NotFound, and Conflict if it carries the marks of another server.
        """
        ...

    def release(self, ref: ServerRef) -> None:
        """Take our marks off; the machine stays as it is. Absent, or without them: nothing."""
        ...

    def seed(self, spec: ServerSpec) -> Seed:
        """What makes the machine this node, for whoever can log in to it."""
        ...
