"""How labctl reaches into a node: runs commands, reads logs, copies files. By the driver's
`access`: in the node's folder on this machine, or by SSH."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from labcore.errors import DriverUnusable, NotFound
from labcore.wire.lab import Lab, Server
from labctl import wish
from labctl.session import Session


class Reach(Protocol):
    """One node, reached. Every call raises NotFound and Unreachable where it cannot be."""

    def execute(self, command: Sequence[str]) -> int:
        """Run a program on it between our own streams; its exit code. Words stay words."""
        ...

    def log_in(self, command: Sequence[str]) -> int:
        """A shell on it, on our own terminal; or what a shell there makes of `command`."""
        ...

    def logs(self, service: str | None, lines: int, *, follow: bool) -> Iterator[str]:
        """The last lines of a service (None: of all, behind their names; `console`: of the boot
        console); with `follow`, what comes after them too, without end."""
        ...

    def put(self, source: Path, path: str) -> str:
        """Copy a file or folder to it, as `cp -r` does; where it is there."""
        ...

    def get(self, path: str, target: Path) -> Path:
        """Copy a file or folder from it, as `cp -r` does; where it is here."""
        ...


def reach(session: Session, lab: Lab, node: str) -> Reach:
    """The way to a node. Raises NotFound, DriverUnusable. Nothing is opened before it is used."""
    server = find(lab, node)
    access = access_of(session, lab)
    if access == "local":
        from labctl.reach.local import LocalNode

        return LocalNode(session, lab, server)
    if access == "ssh":
        from labctl.reach.guest import Guest

        return Guest(session, lab, server)
    raise DriverUnusable(f"driver {lab.driver} offers no way into a node")


def access_of(session: Session, lab: Lab) -> str:
    """How the nodes of a lab are reached: local, ssh, or empty if nobody knows."""
    entry = wish.driver(session, lab.driver)
    return str((entry.get("capabilities") or {}).get("access", ""))


def find(lab: Lab, node: str) -> Server:
    """The server of that name; raises NotFound with the known ones."""
    for server in lab.servers:
        if server.name == node:
            return server
    known = ", ".join(server.name for server in lab.servers) or "none"
    raise NotFound(f"lab {lab.lab!r} has no node {node!r}", f"nodes: {known}")


def services_of(lab: Lab, server: Server) -> tuple[str, ...]:
    """What runs on a node."""
    group = lab.group(server.group)
    return group.services if group else ()


def check_service(lab: Lab, server: Server, service: str | None) -> None:
    """Raise NotFound, with the known ones, for a service that the node does not have."""
    known = services_of(lab, server)
    if service is not None and service not in known:
        raise NotFound(f"{server.name} has no service {service!r}", f"services: {', '.join(known)}")
