"""Instances of Incus that are servers of ours: known by labels, and by a UUID made from our id.

    user.labctl.lab, .node, .id     whose it is
    user.labctl.digest              of the spec it was made from; missing: it is half made
    user.labctl.address             its address on the network of the lab
    user.labctl.forwards            `{"service": [host port, node port]}`
    user.labctl.manager-port        of the server-manager, for nodes that may talk to it

A copy that somebody made inherits the labels, but not `volatile.uuid`: it is not ours.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labcore.codec import encode
from labcore.wire.lab import PowerState
from server_manager.drivers.base import Forward, ServerRef, ServerSpec, sealed
from server_manager.drivers.incus.settings import IncusSettings

PREFIX = "user.labctl."
LAB, NODE, ID = f"{PREFIX}lab", f"{PREFIX}node", f"{PREFIX}id"
DIGEST, ADDRESS = f"{PREFIX}digest", f"{PREFIX}address"
FORWARDS, MANAGER_PORT = f"{PREFIX}forwards", f"{PREFIX}manager-port"
UUID = "volatile.uuid"
NIC = "eth0"
LONGEST_NAME = 63
NESTING = "security.nesting"
_NAMESPACE = uuid.UUID("6f6c0f0e-6d0f-5b0a-9d0c-0d1ab0c71a5b")

STATES: Mapping[str, PowerState] = {
    "Running": PowerState.RUNNING,
    "Ready": PowerState.RUNNING,
    "Stopped": PowerState.STOPPED,
    "Frozen": PowerState.PAUSED,
    "Starting": PowerState.STARTING,
    "Stopping": PowerState.STOPPING,
    "Aborting": PowerState.STOPPING,
    "Freezing": PowerState.PAUSED,
    "Thawed": PowerState.RUNNING,
}


@dataclass(frozen=True)
class Instance:
    """One instance that is a server of ours, as Incus told of it."""

    ref: ServerRef
    name: str  # in Incus
    status: str  # Error: broken, or its member is away
    member: str | None
    digest: str | None  # None: half made
    address: str
    forwards: tuple[Forward, ...]
    manager_port: int | None
    devices: Mapping[str, Mapping[str, str]]
    is_vm: bool = False

    @property
    def state(self) -> PowerState:
        """Of the instance alone; ERROR for what Incus calls that, and for what nobody knows."""
        return STATES.get(self.status, PowerState.ERROR)

    def endpoints(self) -> dict[str, dict[str, str]]:
        """Its addresses for each viewer."""
        return {
            "host": {f.service: f"127.0.0.1:{f.host_port}" for f in self.forwards},
            "node": {f.service: f"{self.address}:{f.node_port}" for f in self.forwards},
        }


def name_of(ref: ServerRef, project: str) -> str:
    """What its instance is called. It decides nothing, but projects that share a network may not
    have two of one name."""
    name = f"{ref.lab}-{ref.name}"
    if project == IncusSettings().project:
        return name
    tail = hashlib.sha256(f"{project}/{ref.lab}/{ref.name}".encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7]}-{tail}"


def uuid_of(ref: ServerRef) -> str:
    """Which `volatile.uuid` its instance has."""
    return str(uuid.uuid5(_NAMESPACE, ref.id))


def parse(
    lab: str | None, told: Iterable[Mapping[str, Any]], noted: Callable[[], Mapping[str, Instance]]
) -> tuple[Instance, ...]:
    """Those of Incus's instances that are servers of a lab (None: of any), by names of nodes.

    Of one whose member is away Incus tells nothing but its name: `noted` says whose that is.
    """
    found = [_instance(one) for one in told if one.get("config") is not None]
    if away := [one for one in told if one.get("config") is None]:
        known = noted()
        found += [_away(known[one["name"]], one) for one in away if one["name"] in known]
    ours = (i for i in found if i is not None and lab in (None, i.ref.lab))
    return tuple(sorted(ours, key=lambda i: i.ref.name))


def _away(known: Instance, told: Mapping[str, Any]) -> Instance:
    return replace(known, status=str(told.get("status", "")), member=_member(told))


def _member(told: Mapping[str, Any]) -> str | None:
    location = str(told.get("location") or "none")
    return None if location in ("", "none") else location


def _instance(told: Mapping[str, Any]) -> Instance | None:
    config: Mapping[str, str] = told.get("config") or {}
    if not all(config.get(key) for key in (LAB, NODE, ID)):
        return None
    ref = ServerRef(config[LAB], config[NODE], config[ID])
    if config.get(UUID) != uuid_of(ref):
        return None
    port = config.get(MANAGER_PORT, "")
    return Instance(
        ref=ref,
        name=str(told["name"]),
        status=str(told.get("status", "")),
        member=_member(told),
        digest=config.get(DIGEST),
        address=config.get(ADDRESS, ""),
        forwards=_forwards(config.get(FORWARDS, "")),
        manager_port=int(port) if port.isdigit() else None,
        devices=told.get("devices") or {},
        is_vm=told.get("type") == "virtual-machine",
    )


def _forwards(text: str) -> tuple[Forward, ...]:
    try:
        ports = json.loads(text or "{}")
        return tuple(Forward(str(s), int(host), int(node)) for s, (host, node) in ports.items())
    except (ValueError, TypeError, AttributeError):
        return ()  # somebody wrote there: no ports are better than wrong ones


def forwards_label(spec: ServerSpec) -> dict[str, str]:
    """The label that says which host ports lead to it."""
    ports = {f.service: [f.host_port, f.node_port] for f in spec.forwards}
    return {FORWARDS: json.dumps(ports, separators=(",", ":"))}


def digest_of(spec: ServerSpec) -> str:
    """Over all of a spec but its host ports, which may change."""
    text = json.dumps(encode(sealed(replace(spec, forwards=()))), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def limits(spec: ServerSpec, settings: IncusSettings) -> dict[str, str]:
    """What it may use, and do. A container may have a part of a processor."""
    memory = {"limits.memory": f"{spec.memory_mib}MiB"}
    if settings.type == "vm":
        return {**memory, "limits.cpu": str(math.ceil(spec.cpus))}
    share = f"{max(1, round(spec.cpus * 100))}ms/100ms"
    # Podman makes containers in it, for an app that is an image.
    nesting = {NESTING: "true"} if any(s.container for s in spec.services) else {}
    return {**memory, **nesting, "limits.cpu.allowance": share, "limits.processes": "2000"}


def labels(spec: ServerSpec, address: str) -> dict[str, str]:
    """All labels of a new instance but the digest, which says that it is whole."""
    port = {MANAGER_PORT: str(spec.manager_port)} if spec.manager_port else {}
    ref = spec.ref
    return {
        LAB: ref.lab,
        NODE: ref.name,
        ID: ref.id,
        ADDRESS: address,
        UUID: uuid_of(ref),
        **forwards_label(spec),
        **port,
    }
