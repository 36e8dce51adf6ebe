"""The network of a lab's instances: its addresses, and which of them a server gets.

A managed network hands out the address that a NIC asks for. On a bridge of the machines nobody
does: there the lab file says which addresses are free, and the seed sets one.
"""

from __future__ import annotations

import ipaddress
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from labcore.errors import Conflict, DriverUnusable, UsageProblem
from labcore.services import SSH_PORT
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.drivers.incus import instances
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.settings import IncusSettings
from server_manager.guest.network import GuestNetwork

LOOPBACK = "127.0.0.1"

Interface = ipaddress.IPv4Interface
Address = ipaddress.IPv4Address


@dataclass(frozen=True)
class Network:
    """Where instances are attached."""

    name: str
    device: Mapping[str, str]  # the NIC, without an address
    subnet: Interface  # with the address of the gateway, where there is one
    pools: tuple[tuple[Address, Address], ...]  # first and last of the addresses we may use
    is_managed: bool
    # This machine's own address in it; None: it is not on it, and there are tunnels (`tunnels`).
    ours: str | None
    project: str  # of the instances: several may share the network

    def guest(self, spec: ServerSpec, address: str) -> GuestNetwork:
        """What a server is told of it."""
        static = f"{address}/{self.subnet.network.prefixlen}"
        others = spec.ssh.ports if spec.ssh and self.is_managed else {}
        # Incus answers the names of instances; their addresses are not chosen yet.
        peers = {n: f"{self._name(ServerRef(spec.ref.lab, n, ''))}:{SSH_PORT}" for n in others}
        return GuestNetwork(
            manager_host=self.ours or LOOPBACK,
            names=(address, self._name(spec.ref)),
            sources=(str(self.subnet.network),),
            address=None if self.is_managed else static,
            mac=None if self.is_managed else mac_of(spec.ref),
            peers=peers,
        )

    def _name(self, ref: ServerRef) -> str:
        return instances.name_of(ref, self.project)

    def nic(self, ref: ServerRef, address: str) -> dict[str, str]:
        """The device of a server."""
        if self.is_managed:
            return {**self.device, "ipv4.address": address}
        return {**self.device, "hwaddr": mac_of(ref)}


def mac_of(ref: ServerRef) -> str:
    """The MAC of a server whose address we set ourselves; Incus's own prefix, locally given."""
    tail = instances.uuid_of(ref).replace("-", "")[:6]
    return f"12:66:6a:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"


Own = Callable[[Interface], str | None]  # this machine's address in a network, if it is on it


def find(incus: Incus, own: Own) -> Network:
    """The network that the settings name, else that of the profile.

    Raises DriverUnusable if there is none, or it has no addresses.
    """
    settings = incus.settings
    device = dict(_nic_of(incus.get(f"/profiles/{settings.profile}"), settings.network))
    told: Mapping[str, Any] | None = None
    name = device.get("network") or device.get("parent", "")
    if "network" in device:
        told = incus.get(f"/networks/{name}")
        if not told.get("managed"):
            device = {"type": "nic", "name": instances.NIC, "nictype": "bridged", "parent": name}
            told = None
    if told is None:
        return _unmanaged(name, device, settings, own)
    return _managed(name, device, told.get("config") or {}, settings, own)


def _nic_of(profile: Mapping[str, Any], network: str | None) -> Mapping[str, str]:
    if network is not None:
        return {"type": "nic", "name": instances.NIC, "network": network}
    nics = {k: v for k, v in (profile.get("devices") or {}).items() if v.get("type") == "nic"}
    device = nics.get(instances.NIC) or next(iter(nics.values()), None)
    if device is None:
        raise DriverUnusable(
            f"profile {profile.get('name')!r} of Incus has no network",
            "set `incus.network` in lab.yaml; `incus network list` shows those there are",
        )
    return {**device, "name": instances.NIC}


def _managed(
    name: str,
    device: Mapping[str, str],
    config: Mapping[str, str],
    settings: IncusSettings,
    own: Own,
) -> Network:
    try:
        subnet = Interface(config.get("ipv4.address", ""))
    except ValueError as error:
        raise DriverUnusable(
            f"network {name!r} of Incus has no IPv4 addresses",
            f"incus network set {name} ipv4.address=auto; or name another one in lab.yaml",
        ) from error
    if settings.addresses:
        pools = _parse(settings.addresses)[0]
    else:
        pools = _besides(subnet, config.get("ipv4.dhcp.ranges"))
    return Network(name, device, subnet, pools, True, own(subnet), settings.project)


def _unmanaged(name: str, device: Mapping[str, str], settings: IncusSettings, own: Own) -> Network:
    if not settings.addresses:
        raise DriverUnusable(
            f"Incus hands out no addresses on {name!r}, as it does not manage that network",
            "set `incus.addresses` in lab.yaml to some that are free, such as"
            " 10.78.0.100-10.78.0.199/24",
        )
    pools, subnet = _parse(settings.addresses)
    return Network(name, device, subnet, pools, False, own(subnet), settings.project)


def _parse(addresses: str) -> tuple[tuple[tuple[Address, Address], ...], Interface]:
    """`first-last/prefix` as pools and the network they are in. Raises UsageProblem."""
    try:
        span, _, prefix = addresses.partition("/")
        first, _, last = span.partition("-")
        subnet = Interface(f"{first}/{prefix or 24}")
        pool = (Address(first), Address(last or first))
        if pool[0] > pool[1] or pool[1] not in subnet.network:
            raise ValueError(f"{pool[1]} is not behind {pool[0]} in {subnet.network}")
        subnet = Interface(f"{subnet.network.network_address}/{subnet.network.prefixlen}")
    except ValueError as error:
        raise UsageProblem(
            f"incus.addresses: {addresses!r}: {error}", "10.78.0.100-10.78.0.199/24 is an example"
        ) from error
    return (pool,), subnet


def _besides(subnet: Interface, ranges: str | None) -> tuple[tuple[Address, Address], ...]:
    """The addresses that DHCP does not give to others; all, where it gives all."""
    first, last = subnet.network.network_address + 1, subnet.network.broadcast_address - 1
    whole = ((first, last),)
    if not ranges:
        return whole
    free, begin = [], first
    spans = (span.strip().partition("-") for span in ranges.split(","))
    for low, high in sorted((Address(a.strip()), Address(b.strip())) for a, _, b in spans):
        if low > begin:
            free.append((begin, low - 1))
        begin = max(begin, high + 1)
    if begin <= last:
        free.append((begin, last))
    return tuple(free) if sum(_size(pool) for pool in free) >= 64 else whole


def _size(pool: tuple[Address, Address]) -> int:
    return int(pool[1]) - int(pool[0]) + 1


def own_address(subnet: Interface) -> str | None:
    """This machine's address in a network, if it is on it."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            try:
                if Address(one.address) in subnet.network:
                    return one.address
            except ValueError:
                continue  # of another family
    return None


class Addresses:
    """Chooses addresses for new servers. What it chose lately it does not choose again, as what
    was asked for with it may not stand in Incus yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chosen: dict[str, str] = {}  # address -> id of its server

    def choose(self, network: Network, spec: ServerRef, number: int, taken: Iterable[str]) -> str:
        """A free address: the same each time, if it is free. Raises Conflict if none is.

        `taken` are those that instances and others are known to have.
        """
        total = sum(_size(pool) for pool in network.pools)
        begin = zlib.crc32(f"{network.project}/{spec.lab}".encode()) + number
        with self._lock:
            others = {a for a, owner in self._chosen.items() if owner != spec.id}
            never = {*taken, *others, str(network.subnet.ip), *filter(None, (network.ours,))}
            for step in range(total):
                address = _nth(network, (begin + step) % total)
                if address not in never:
                    self._chosen[address] = spec.id
                    return address
        raise Conflict(
            f"network {network.name!r} has no free address among its {total}",
            "destroy other labs, or give `incus.addresses` more of them",
        )

    def free(self, server: ServerRef) -> None:
        """Its instance is made, or will not be: Incus knows better than we do from now on."""
        with self._lock:
            self._chosen = {a: owner for a, owner in self._chosen.items() if owner != server.id}


def _nth(network: Network, index: int) -> str:
    for pool in network.pools:
        if index < _size(pool):
            return str(pool[0] + index)
        index -= _size(pool)
    raise AssertionError("the index is below the sum of all pools")


def taken(incus: Incus, network: Network, visible: Iterable[instances.Instance]) -> frozenset[str]:
    """The addresses that somebody has, running or not, as far as this user may know."""
    labelled = {instance.address for instance in visible}
    if not network.is_managed:
        return frozenset(labelled)
    leases = incus.get(f"/networks/{network.name}/leases")
    return frozenset({*labelled, *(str(lease["address"]) for lease in leases or ())})
