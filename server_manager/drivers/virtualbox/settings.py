"""How a virtual machine of ours is set up, and how VirtualBox tells that it is. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path

from labcore.codec import encode
from server_manager.drivers.base import Forward, ServerRef, ServerSpec, lasting, sealed
from server_manager.drivers.virtualbox.machines import Rule
from server_manager.guest.network import GuestNetwork

LOOPBACK = "127.0.0.1"
GATEWAY = "10.0.2.2"  # the host, as a guest behind VirtualBox's NAT reaches it
NAT_NETWORK = "10.0.2.0/24"
INTERNAL_NETWORK = "10.93.0.0/16"
OURS = uuid.UUID("6f2a1f38-6a0e-5c1b-9d55-6c6162637462")  # the namespace of our machines
GROUP = "/labctl"
# Extradata of our machines. A clone made in the GUI inherits it, but not the UUID in it.
LAB, NODE, UUID, SERVER, SPEC = (
    "labctl/lab",
    "labctl/node",
    "labctl/uuid",
    "labctl/server",
    "labctl/spec",
)


def machine_uuid(ref: ServerRef) -> str:
    """The UUID of the machine of a server: no other server's, and known before it exists."""
    return str(uuid.uuid5(OURS, ref.id))


def live_uuid(image: str) -> str:
    """The UUID of the live machine of an image, whether there is one or not."""
    return str(uuid.uuid5(OURS, f"live {image}"))


def machine_name(ref: ServerRef) -> str:
    """How VirtualBox's window calls it. Decides nothing."""
    return f"{ref.lab}-{ref.name}"


def marks(spec: ServerSpec, machine: str) -> Mapping[str, str]:
    """The extradata that says whose machine this is, and from what it was made."""
    return {**whose(spec.ref, machine), SPEC: spec_digest(spec)}


def whose(ref: ServerRef, machine: str) -> Mapping[str, str]:
    """The part of the marks that must be right before anything is changed."""
    return {LAB: ref.lab, NODE: ref.name, UUID: machine, SERVER: ref.id}


def spec_digest(spec: ServerSpec) -> str:
    """A digest of what a server was made from and keeps."""
    told = json.dumps(encode(lasting(sealed(spec))), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def address(number: int) -> str:
    """The static address of a node in the internal network of its lab."""
    return f"10.93.{number >> 8}.{number & 255}"


def mac(number: int) -> str:
    """The MAC of its second NIC, 12 digits: VirtualBox's prefix, 0x5D = 93, the number."""
    return f"0800275D{number:04X}"


def guest_network(spec: ServerSpec) -> GuestNetwork:
    """What its seed has to know of the network."""
    others = spec.ssh.ports if spec.ssh else {}
    peers = {name: f"{GATEWAY}:{port}" for name, port in others.items()}
    if spec.network == "nat":
        return GuestNetwork(GATEWAY, (LOOPBACK, GATEWAY), (NAT_NETWORK,), peers=peers)
    digits = mac(spec.number).lower()
    return GuestNetwork(
        manager_host=GATEWAY,
        names=(LOOPBACK, address(spec.number)),
        sources=(NAT_NETWORK, INTERNAL_NETWORK),
        address=f"{address(spec.number)}/16",
        mac=":".join(digits[i : i + 2] for i in range(0, 12, 2)),
        peers=peers,
    )


def endpoints(spec: ServerSpec) -> Mapping[str, Mapping[str, str]]:
    """Where its services are, for each viewer."""
    host = {f.service: f"{LOOPBACK}:{f.host_port}" for f in spec.forwards}
    if spec.network == "nat":
        node = {f.service: f"{GATEWAY}:{f.host_port}" for f in spec.forwards}
    else:
        node = {f.service: f"{address(spec.number)}:{f.node_port}" for f in spec.forwards}
    return {"host": host, "node": node}


def rules(forwards: tuple[Forward, ...]) -> tuple[Rule, ...]:
    """The forwards as VirtualBox should have them."""
    made = (Rule(f.service, "tcp", LOOPBACK, f.host_port, f.node_port) for f in forwards)
    return tuple(sorted(made, key=lambda rule: rule.name))


def rule_arguments(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> tuple[str, ...]:
    """What `modifyvm` is told to turn old forwards into new ones; () if they are the same."""
    gone = (word for rule in old if rule not in new for word in ("--natpf1", "delete", rule.name))
    made = (
        word
        for rule in new
        if rule not in old
        for word in (
            "--natpf1",
            f"{rule.name},{rule.protocol},{rule.host_ip},{rule.host_port},,{rule.guest_port}",
        )
    )
    return (*gone, *made)


def modify_arguments(spec: ServerSpec, serial: Path, old: tuple[Rule, ...]) -> tuple[str, ...]:
    """What `modifyvm` is told for a new clone whose image has the forwards `old`."""
    return (
        *("--groups", f"{GROUP}/{spec.ref.lab}"),
        *("--memory", str(spec.memory_mib), "--cpus", str(cpu_count(spec))),
        *hardware_arguments(serial),
        *("--mac-address1", "auto"),
        *("--nat-localhostreachable1", "on" if reaches_host(spec) else "off"),
        *rule_arguments(old, rules(spec.forwards)),
        *_second_nic(spec),
    )


def saved_arguments(spec: ServerSpec, serial: Path, old: tuple[Rule, ...]) -> tuple[str, ...]:
    """The same for one that came up saved: what 7.2 lets change then, and all that differs."""
    return (
        *("--groups", f"{GROUP}/{spec.ref.lab}"),
        *("--uart-mode1", "file", str(serial)),
        *("--nat-localhostreachable1", "on" if reaches_host(spec) else "off"),
        *rule_arguments(old, rules(spec.forwards)),
    )


def hardware_arguments(serial: Path) -> tuple[str, ...]:
    """What all machines of ours have and have not. Without a serial port some kernels take minutes
    longer to boot."""
    return (
        *("--rtc-use-utc", "on", "--boot1", "disk"),
        *(word for n in (2, 3, 4) for word in (f"--boot{n}", "none")),
        *("--audio-enabled", "off", "--usb-ohci", "off", "--usb-ehci", "off"),
        *("--usb-xhci", "off", "--vrde", "off"),
        *("--uart1", "0x3F8", "4", "--uart-mode1", "file", str(serial)),
        *("--nic1", "nat", "--nic-type1", "virtio"),
    )


def _second_nic(spec: ServerSpec) -> tuple[str, ...]:
    if spec.network == "nat":
        return ("--nic2", "none")
    return (
        *("--nic2", "intnet", "--intnet2", f"labctl-{spec.ref.lab}"),
        *("--nic-type2", "virtio", "--mac-address2", mac(spec.number)),
    )


def stored(spec: ServerSpec, serial: Path) -> Mapping[str, str]:
    """What `showvminfo` must tell afterwards: VirtualBox stores some values otherwise, silently."""
    internal = {
        "nic2": "intnet",
        "intnet2": f"labctl-{spec.ref.lab}",
        "nictype2": "virtio",
        "macaddress2": mac(spec.number),
    }
    return {
        "groups": f"{GROUP}/{spec.ref.lab}",
        "memory": str(spec.memory_mib),
        "cpus": str(cpu_count(spec)),
        "nic1": "nat",
        "nictype1": "virtio",
        "localhostReachable": "1" if reaches_host(spec) else "0",
        "uartmode1": f"file,{serial}",
        **({"nic2": "none"} if spec.network == "nat" else internal),
    }


def cpu_count(spec: ServerSpec) -> int:
    """A virtual machine has whole CPUs."""
    return max(1, math.ceil(spec.cpus))


def reaches_host(spec: ServerSpec) -> bool:
    """Whether it may reach the host's loopback, where the server-manager listens."""
    return spec.manager_port is not None
