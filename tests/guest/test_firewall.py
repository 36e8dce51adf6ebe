"""nftables rules: only the lab's ports, only from the lab."""

import dataclasses

import pytest

from labcore.errors import UsageProblem
from server_manager.guest.firewall import rules
from server_manager.guest.seed import make_seed
from tests.guest.specs import CAPABILITIES, NETWORK, Keys, agent, control


@pytest.fixture(scope="module")
def keys():
    return Keys()


def of(spec, network=NETWORK) -> list[str]:
    text = make_seed(spec, CAPABILITIES, network).files["nftables.conf"].content.decode()
    return [line.strip() for line in text.splitlines()]


def test_the_ports_of_the_node_are_open_to_the_lab_and_no_others(keys):
    opened = [line for line in of(agent(keys)) if "dport" in line]
    assert opened == ["ip saddr { 10.0.2.2/32, 10.93.0.0/16 } tcp dport { 22, 5000, 5100 } accept"]
    assert "type filter hook input priority filter; policy drop;" in of(agent(keys))


def test_a_control_node_reaches_only_the_labs_ports_of_the_host(keys):
    lines = of(control(keys))
    to_host = [line for line in lines if line.startswith("ip daddr 10.0.2.2")]
    assert to_host[-2:] == [
        "ip daddr 10.0.2.2 tcp dport { 3000 } accept",
        "ip daddr 10.0.2.2 reject",
    ]
    assert not any("daddr" in line for line in of(agent(keys)))


def test_peers_that_are_reached_by_the_host_are_the_labs_ports_too(keys):
    network = dataclasses.replace(NETWORK, peers={"agent-1": "10.0.2.2:2224", "x": "10.93.0.9:22"})
    assert "ip daddr 10.0.2.2 tcp dport { 2224, 3000 } accept" in of(control(keys), network)


def test_neighbouring_ports_are_one_range():
    text = rules([22], [], manager_host="10.0.2.2", host_ports=[5003, 3000, 5001, 5002, 8080])
    assert "tcp dport { 3000, 5001-5003, 8080 } accept" in text


def test_both_address_families_are_told_apart():
    text = rules([22], ["10.0.0.0/8", "fd00::/8"], manager_host="fd00::1", host_ports=[1])
    assert "ip saddr { 10.0.0.0/8 } tcp dport { 22 } accept" in text
    assert "ip6 saddr { fd00::/8 } tcp dport { 22 } accept" in text
    assert "ip6 daddr fd00::1 tcp dport { 1 } accept" in text


@pytest.mark.parametrize(
    ("sources", "host", "what"),
    [(["10.0.0.1/8"], "10.0.0.1", "no network"), (["10.0.0.0/8"], "my-laptop", "no address")],
)
def test_names_and_host_bits_are_refused(sources, host, what):
    with pytest.raises(UsageProblem, match=what):
        rules([22], sources, manager_host=host, host_ports=[])
