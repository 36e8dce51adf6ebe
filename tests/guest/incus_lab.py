"""A lab of containers with a real systemd, seeded as the driver `incus` does it."""

import functools
import subprocess
from dataclasses import dataclass

from server_manager.drivers.base import ServerSpec
from server_manager.guest.network import GuestNetwork
from server_manager.guest.seed import Seed, make_seed
from tests.guest import specs
from tests.guest.containers import Container, until


@dataclass(frozen=True)
class Lab:
    """A control node, an agent that only it and this machine may reach, and somebody else."""

    keys: specs.Keys
    control: Container
    agent: Container
    neighbour: Container
    agent_address: str
    sources: tuple[str, ...]
    manager_port: int

    def seed(self, spec: ServerSpec) -> Seed:
        gateway = self.sources[0].partition("/")[0]
        peers = {"agent-1": f"{self.agent_address}:22"}
        network = GuestNetwork(gateway, (), self.sources, peers=peers)
        return make_seed(spec, specs.CAPABILITIES, network)

    def ssh(self, container: Container, user: str, command: str, *options: str):
        """Log in from here as a user of the lab does: key, pinned host key, nothing else."""
        strict = (
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=9",
        )
        return subprocess.run(
            ["ssh", "-F", "none", *strict, *options, f"{user}@{container.address()}", command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )


def control_of(lab: Lab) -> ServerSpec:
    return specs.control(lab.keys, "agent-1", manager_port=lab.manager_port)


def healthy(lab: Lab) -> None:
    for container, port, path, host in (
        (lab.control, 80, "/.labctl/health", "any"),
        (lab.control, 5200, "/", "control"),
        (lab.agent, 5000, "/health", "agent-1"),
        (lab.agent, 5100, "/health", "agent-1"),
    ):
        answers = functools.partial(container.answers, port, path, host)
        until(f"{container.name}:{port} is healthy", answers)
