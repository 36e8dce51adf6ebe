"""Host ports: the documented formula, and leases that keep two programs off one port.

Formula (the contract, section 5): a service's `HostPort` plus the node's number where it says so,
plus 1000 for each lab slot. What is taken is replaced by a free port and told.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from labcore.errors import Conflict
from labcore.services import SSH_HOST_PORTS, SSH_PORT, HostPort, Service
from labcore.wire.lab import Group
from server_manager.database import Database
from server_manager.drivers.base import Forward
from server_manager.labspec import MOST_AGENTS, LabSpec, member_name, most_servers

SLOT_STEP = 1000
# Searched for a free port; below what Linux gives to outgoing connections (from 32768).
FREE_FROM, FREE_TO = 20_000, 32_767
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A port that a node of ours should have. `wanted` is None where nothing is documented."""

    service: str
    node_port: int
    wanted: int | None


@dataclass(frozen=True)
class Moved:
    """A documented port that was taken, and what is used instead."""

    node: str
    service: str
    wanted: int
    port: int
    ours: bool  # another lease of ours holds it


def documented(host_port: HostPort | None, index: int, slot: int) -> int | None:
    """The documented host port of a service of member `index` in slot `slot`, if there is one."""
    if host_port is None:
        return None
    return host_port.base + (index if host_port.plus_index else 0) + SLOT_STEP * slot


def node_ports(
    group: Group, services: tuple[Service, ...], index: int, slot: int, *, ssh: bool
) -> tuple[Port, ...]:
    """The ports that member `index` of a group should have on the host."""
    ports = [
        Port(s.name, s.port, documented(s.host_port, index, slot))
        for s in services
        if s.port is not None
    ]
    if ssh:
        ports.append(Port("ssh", SSH_PORT, documented(SSH_HOST_PORTS.get(group.role), index, slot)))
    return tuple(ports)


def first_of(root: Path) -> int:
    """Where the search for free ports begins for a state directory.

    Two server-managers that look at the same moment, each for its own directory, would otherwise
    find the same ports free. Only a lease in the one database keeps ports apart for sure.
    """
    return FREE_FROM + zlib.crc32(bytes(root)) % (FREE_TO - FREE_FROM)


def is_free(port: int) -> bool:
    """Whether a server could listen on loopback:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of one that just ended does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Where SO_REUSEADDR lets us bind beside a server that listens on all addresses (macOS).
        probe.settimeout(0.2)
        return probe.connect_ex((LOOPBACK, port)) != 0


def holders() -> Mapping[int, str]:
    """Which program listens on which port, as far as this user may know. Takes a while."""
    import psutil

    found: dict[int, str] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
                with contextlib.suppress(psutil.Error):
                    name = psutil.Process(connection.pid).name()
                    found[connection.laddr.port] = f"{name} (pid {connection.pid})"
    return found


def holder(port: int) -> str:
    """Which program listens on a port."""
    return holders().get(port, "another program")


def told(moved: Sequence[Moved]) -> list[tuple[Moved, str]]:
    """Each port that was moved with the one who holds the documented one."""
    listening = {} if all(m.ours for m in moved) else holders()
    other = "another program"
    return [
        (m, "another lab or group" if m.ours else listening.get(m.wanted, other)) for m in moved
    ]


class Ports:
    """The leases of all labs. A lease ends with its lab."""

    def __init__(
        self,
        database: Database,
        *,
        is_free: Callable[[int], bool] = is_free,
        first: int = FREE_FROM,
    ) -> None:
        self._database = database
        self.is_free = is_free
        self._first = first

    def lease_lab(self, spec: LabSpec, slot: int, *, ssh: bool) -> tuple[Moved, ...]:
        """Lease for every server that the lab may ever have; what is leased already stays."""
        with self._database.transaction():
            return tuple(
                moved
                for group in spec.groups
                for index in range(1, most_servers(group) + 1)
                for moved in self.lease(spec, group, index, slot, ssh=ssh)
            )

    def lease(
        self, spec: LabSpec, group: Group, index: int, slot: int, *, ssh: bool
    ) -> tuple[Moved, ...]:
        """Lease for one server. Raises Conflict if no port is left. May be called twice."""
        node = member_name(group, index)
        moved = []
        with self._database.transaction() as connection:
            held = self.of(spec.lab, node)
            for port in node_ports(group, spec.services[group.name], index, slot, ssh=ssh):
                if port.service in held:
                    continue
                got, ours = self._choose(connection, port.wanted)
                connection.execute(
                    "INSERT INTO leases (lab, node, service, host_port) VALUES (?, ?, ?, ?)",
                    (spec.lab, node, port.service, got),
                )
                if port.wanted is not None and got != port.wanted:
                    moved.append(Moved(node, port.service, port.wanted, got, ours))
        return tuple(moved)

    def _choose(self, connection: sqlite3.Connection, wanted: int | None) -> tuple[int, bool]:
        """A port for a new lease, and whether a lease of ours kept it from being `wanted`."""
        leased = {row["host_port"] for row in connection.execute("SELECT host_port FROM leases")}
        if wanted is None or wanted in leased:
            return self.free(leased), True
        return (wanted if self.is_free(wanted) else self.free(leased)), False

    def take_over(self, lab: str, ports: Mapping[str, Mapping[str, int]]) -> None:
        """Lease what the machines of a lab have already (node -> service -> port), and no more.

        Raises Conflict for a port that another lab has.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE lab = ?", (lab,))
            for node, services in ports.items():
                for service, port in services.items():
                    for row in self._database.rows("SELECT * FROM leases WHERE host_port=?", port):
                        raise Conflict(
                            f"port {port} of {node} is that of {row['lab']}/{row['node']} already",
                            "forward another port to it",
                        )
                    connection.execute(
                        "INSERT INTO leases (lab, node, service, host_port) VALUES (?, ?, ?, ?)",
                        (lab, node, service, port),
                    )

    def taken(self, lab: str, node: str) -> Mapping[str, int]:
        """Those of a node's ports, by service, that somebody listens on now."""
        return {s: port for s, port in self.of(lab, node).items() if not self.is_free(port)}

    def move_taken(self, lab: str, node: str) -> tuple[Moved, ...]:
        """Lease free ports in place of a stopped node's ports that others hold now."""
        moved = []
        with self._database.transaction() as connection:
            for service, port in self.taken(lab, node).items():
                got, _ = self._choose(connection, None)
                connection.execute(
                    "UPDATE leases SET host_port = ? WHERE lab = ? AND node = ? AND service = ?",
                    (got, lab, node, service),
                )
                moved.append(Moved(node, service, port, got, ours=False))
        return tuple(moved)

    def free(self, besides: set[int]) -> int:
        """A free port of the search range that is not in `besides`, the first from `first` on."""
        for port in chain(range(self._first, FREE_TO + 1), range(FREE_FROM, self._first)):
            if port not in besides and self.is_free(port):
                return port
        raise Conflict(f"no port between {FREE_FROM} and {FREE_TO} is free")

    def of(self, lab: str, node: str) -> Mapping[str, int]:
        """The host ports that a node has, by service."""
        rows = self._database.rows("SELECT * FROM leases WHERE lab = ? AND node = ?", lab, node)
        return {row["service"]: row["host_port"] for row in rows}

    def may_be_of(self, spec: LabSpec, slot: int) -> tuple[int, ...]:
        """The host ports that a lab has, and those that it would have if its groups grew."""
        rows = self._database.rows("SELECT host_port FROM leases WHERE lab = ?", spec.lab)
        wanted = {
            port.wanted
            for group in spec.groups
            for index in range(1, MOST_AGENTS + 1)
            for port in node_ports(group, spec.services[group.name], index, slot, ssh=True)
            if port.wanted is not None
        }
        return tuple(sorted(wanted | {row["host_port"] for row in rows}))

    def forwards(self, lab: str, node: str, services: tuple[Service, ...]) -> tuple[Forward, ...]:
        """A node's leases as drivers want them."""
        inside = {s.name: s.port for s in services if s.port is not None} | {"ssh": SSH_PORT}
        return tuple(
            Forward(service, port, inside[service])
            for service, port in sorted(self.of(lab, node).items())
        )
