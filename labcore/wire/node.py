"""What a node is told about itself: one JSON file, read once by each of its services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class NodeConfig:
    """The node config file. Paths are absolute and the node's own."""

    lab: str
    node: str
    group: str
    role: str
    region: str
    cpus: float  # how much of a CPU is 100 %, but when `scope` is "system"
    memory_mib: int  # likewise
    # "tree": CPU and memory are those of the node's own process tree (no VM around it);
    # "system": those of the whole machine
    # "container": likewise, but it may use no more than `cpus` of the processors that it sees
    scope: Literal["tree", "system", "container"]
    directory: str  # where services keep run-time files; one folder for each service below it
    listen: Mapping[str, str]  # service -> "address:port" to listen on
    secrets: Mapping[str, str] = field(default_factory=dict)  # name -> file (0600)
    manager_url: str | None = None  # the server-manager, as this node reaches it
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")  # Host headers answered
    nginx: str = "nginx"  # the program


# Names of secrets in NodeConfig.secrets
SCALER_TOKEN = "scaler-token"  # noqa: S105 - a name: scaler -> server-manager, this lab only
SCALER_API_TOKEN = "scaler-api-token"  # noqa: S105 - a name: labctl -> scaler
AGENT_TOKEN = "agent-token"  # noqa: S105 - a name: scaler -> agents (drain)
