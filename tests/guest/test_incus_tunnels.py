"""Ways through Incus to real guests: nothing of their network is used."""

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.clock import SystemClock
from labcore.errors import TimedOut
from server_manager.drivers.base import Forward, ServerRef
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.tunnels import Tunnels
from server_manager.drivers.incus.ways import Ways
from server_manager.ssh_keys import USER_KEY
from tests.contract.incus_rigs import real_incus
from tests.guest.containers import Container, until, why_not
from tests.guest.incus_lab import Lab

pytestmark = [
    pytest.mark.incus,
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason or "incus answers"),
]
NOWHERE = "127.0.0.1"  # a guest's own, as nothing but the guest itself is to reach its services


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def instance(node: str, container: Container, manager_port: int | None = None, **ports: int):
    forwards = tuple(Forward(name, free_port(), port) for name, port in ports.items())
    ref = ServerRef("demo", node, f"id-{node}")
    return Instance(
        ref, container.name, "Running", None, "d", NOWHERE, forwards, manager_port, devices={}
    )


@pytest.fixture
def tunnels(lab: Lab, tmp_path: Path) -> Tunnels:
    """Those of somebody with the keys of the lab, and no more."""
    key = tmp_path / USER_KEY
    key.write_text(lab.keys.user.private)
    key.chmod(0o600)
    for node in ("control", "agent-1"):
        (tmp_path / f"host_{node}.pub").write_text(lab.keys.host(node).public)
    return Tunnels(real_incus(), lambda lab: tmp_path)


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[Ways]:
    made = Ways(tmp_path / "ways", SystemClock())
    yield made
    made.follow("demo")


def answers(port: int, host: str, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_host_ports_lead_into_guests_and_the_control_node_finds_its_way_back(lab, tunnels, ways):
    with socket.create_server(("127.0.0.1", 0)) as manager:
        heard: list[bytes] = []
        back = manager.getsockname()[1]

        def hear() -> None:
            caller, _ = manager.accept()
            with caller:
                heard.append(caller.recv(99))

        threading.Thread(target=hear, daemon=True).start()
        control = instance("control", lab.control, back, nginx=80)
        agent = instance("agent-1", lab.agent, app=5000)
        ways.follow("demo", tunnels=tunnels.to((control, agent)))
        (app,), (nginx,) = agent.forwards, control.forwards
        until("the agent answers", lambda: answers(app.host_port, "agent-1", "/health"))
        until("nginx answers", lambda: answers(nginx.host_port, "any", "/.labctl/health"))
        lab.control.run("bash", "-c", f"echo hello > /dev/tcp/127.0.0.1/{back}")
        until("the server-manager hears it", lambda: heard == [b"hello\n"])
        assert lab.agent.sh(f"ss -Hltn sport = :{back}") == ""


def test_a_guest_with_another_key_is_not_spoken_to(lab, tunnels, ways, tmp_path):
    (tmp_path / "host_agent-1.pub").write_text(lab.keys.host("control").public)
    agent = instance("agent-1", lab.agent, app=5000)
    ways.follow("demo", tunnels=tunnels.to((agent,)))
    with pytest.raises(TimedOut):  # one with its own key takes half a second
        until(
            "it answers",
            lambda: answers(agent.forwards[0].host_port, "agent-1", "/health"),
            limit_s=3.0,
        )
