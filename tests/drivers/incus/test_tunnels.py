"""What an ssh client is told that goes through Incus."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from labcore.errors import LabError
from server_manager.drivers.incus.settings import IncusSettings
from server_manager.drivers.incus.tunnels import Tunnels
from server_manager.paths import StatePaths
from server_manager.ssh_keys import SshKeys
from tests.contract.incus_rigs import NoWays, fake_incus
from tests.drivers.incus.fake_incus import FakeIncus
from tests.drivers.incus.parts import driver_of, spec_of
from tests.drivers.incus.test_ways import instance


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    made = StatePaths(tmp_path)
    for node in ("agent-1", "control"):
        SshKeys(made).identity("demo", node, node.partition("-")[0], ("agent-1",))
    return made


def options(argv: tuple[str, ...], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(argv) if flag == name]


def test_every_host_port_leads_to_the_nodes_own_address(tmp_path: Path, paths: StatePaths):
    settings = IncusSettings(remote="far", project="class-b", config="/etc/our incus")
    tunnels = Tunnels(fake_incus(tmp_path, FakeIncus(), settings), paths.ssh)
    (tunnel,) = tunnels.to([instance("agent-1", 5001, 5000, address="10.9.0.3")])
    assert tunnel.listens == ("127.0.0.1:5001",)
    assert options(tunnel.argv, "-L") == ["127.0.0.1:5001:10.9.0.3:5000"]
    assert options(tunnel.argv, "-R") == []
    (carrier,) = [o for o in options(tunnel.argv, "-o") if o.startswith("ProxyCommand=")]
    assert "env 'INCUS_CONF=/etc/our incus' " in carrier
    assert carrier.endswith("far:demo-agent-1 -- /usr/sbin/sshd -i")
    assert "--project class-b" in carrier
    known = (paths.ssh("demo") / "tunnel_agent-1").read_text()
    assert known.startswith("agent-1 ssh-ed25519 ")
    assert f"UserKnownHostsFile={paths.ssh('demo')}/tunnel_agent-1" in options(tunnel.argv, "-o")


def test_only_the_control_node_gets_to_the_server_manager(tmp_path: Path, paths: StatePaths):
    tunnels = Tunnels(fake_incus(tmp_path, FakeIncus()), paths.ssh)
    control = instance("control", 5200, 5200, manager_port=3000)
    (tunnel,) = tunnels.to([control, dataclasses.replace(control, forwards=())])
    assert options(tunnel.argv, "-R") == ["127.0.0.1:3000:127.0.0.1:3000"]


class FarAway(NoWays):
    """Of a machine that is on none of the networks of Incus."""

    def own_address(self, subnet: object) -> str | None:
        return None


def test_a_network_that_this_machine_is_not_on_is_reached_through_incus(tmp_path: Path):
    driver = driver_of(tmp_path, FakeIncus(), ways=FarAway)
    assert "reached through Incus" in driver.health().version
    told: list[int] = []
    driver._ways.follow = lambda lab, ways=(), tunnels=(): told.append(len(tunnels))  # type: ignore[method-assign]
    SshKeys(StatePaths(tmp_path)).identity("contract", "agent-1", "agent", ())
    spec = spec_of("agent-1")
    driver.create(spec)
    driver.start(spec.ref)
    driver.stop(spec.ref)
    assert told == [1, 0]


def test_without_keys_it_says_what_is_missing(tmp_path: Path):
    tunnels = Tunnels(fake_incus(tmp_path, FakeIncus()), StatePaths(tmp_path).ssh)
    with pytest.raises(LabError, match="no host key was made for demo/agent-1"):
        tunnels.to([instance("agent-1", 5001, 5000)])
