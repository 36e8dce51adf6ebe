"""Server specs of guests, as the server-manager would make them."""

from labcore.services import APP, METRICS, NGINX, SCALER, Service
from server_manager.drivers.base import (
    Capabilities,
    Forward,
    ServerRef,
    ServerSpec,
    SshIdentity,
)
from server_manager.guest.network import GuestNetwork
from server_manager.ssh_keys import KeyPair, make_pair

CAPABILITIES = Capabilities(
    shares_host_network=False,
    scope="system",
    access="ssh",
    gates=("created", "booted", "ssh", "configured", "healthy", "serving"),
    boot_limit_s=60.0,
)
NETWORK = GuestNetwork(
    manager_host="10.0.2.2",
    names=("10.93.0.11",),
    sources=("10.0.2.2/32", "10.93.0.0/16"),
    address="10.93.0.11/16",
    mac="08:00:27:00:00:0B",
)
PORTS = {"nginx": 8080, "scaler": 5200, "metrics": 5101, "app": 5001}
AGENT_ID = "c2447dd0-f8d2-5acc-896b-f10409fecf36"
CONTROL_ID = "27fd4e9e-b2ad-59c7-8b19-8a1d73b0e7da"


class Keys:
    """The keys of one lab."""

    def __init__(self) -> None:
        self.user, self.control = make_pair("demo@labctl"), make_pair("control@demo")
        self.hosts: dict[str, KeyPair] = {}

    def host(self, name: str) -> KeyPair:
        return self.hosts.setdefault(name, make_pair(name))


def agent(keys: Keys, name: str = "agent-1", *, app: Service = APP, **secrets: str) -> ServerSpec:
    host = keys.host(name)
    return _spec(
        ServerRef("demo", name, AGENT_ID),
        "agent",
        (METRICS, app),
        {"agent-token": "told-to-drain", **secrets},
        SshIdentity(host.private, host.public, (keys.user.public, keys.control.public)),
        None,
    )


def control(keys: Keys, *others: str, manager_port: int = 3000) -> ServerSpec:
    host = keys.host("control")
    known = tuple(f"{name} {' '.join(keys.host(name).public.split()[:2])}" for name in others)
    return _spec(
        ServerRef("demo", "control", CONTROL_ID),
        "control",
        (NGINX, SCALER),
        {name: f"{name}-content" for name in SCALER.secrets},
        SshIdentity(host.private, host.public, (keys.user.public,), keys.control.private, known),
        manager_port,
    )


def _spec(
    ref: ServerRef,
    role: str,
    services: tuple[Service, ...],
    secrets: dict[str, str],
    ssh: SshIdentity,
    manager_port: int | None,
) -> ServerSpec:
    forwards = [Forward(s.name, PORTS[s.name], s.port) for s in services if s.port is not None]
    return ServerSpec(
        ref=ref,
        group=role,
        role=role,
        region="local",
        cpus=1.0,
        memory_mib=512,
        services=services,
        forwards=(*forwards, Forward("ssh", 2223, 22)),
        secrets=secrets,
        manager_port=manager_port,
        ssh=ssh,
    )
