"""The lab by Vagrant is labctl's own lab: same ports, names, addresses and scripts."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labcore.services import SSH_HOST_PORTS
from labctl import blueprints
from server_manager import labfile
from server_manager.labspec import from_file
from server_manager.ports import node_ports

TOP = Path(__file__).parents[2]
VAGRANTFILE = (TOP / "Vagrantfile").read_text()
PORTS = json.loads((TOP / "vagrant/ports.json").read_text())


@pytest.mark.parametrize("slot", [0, 2])
def test_its_forwards_are_those_of_the_formula(slot):
    file = labfile.parse(blueprints.text(blueprints.DEFAULT), "blueprint")
    spec = from_file(labfile.to_json(file), "demo")
    for group in spec.groups:
        for index in (1, 7, 99):
            if group.role == "control" and index > 1:
                continue
            services = spec.services[group.name]
            ours = {
                (p.service, p.node_port, p.wanted)
                for p in node_ports(group, services, index, slot, ssh=True)
            }
            # What the Vagrantfile computes from the same numbers.
            theirs = {
                (
                    port["service"],
                    port["guest"],
                    port["host"] + (index if port.get("plus_index") else 0) + 1000 * slot,
                )
                for port in PORTS[group.role]
            }
            assert theirs == ours, (group.name, index)
    assert set(PORTS) == set(SSH_HOST_PORTS)


def test_it_computes_host_ports_from_that_table_alone():
    assert 'port["host"] + (port["plus_index"] ? index : 0) + 1000 * SLOT' in VAGRANTFILE
    assert VAGRANTFILE.count('"forwarded_port"') == 1
    assert not re.search(r"\b(8080|5200|222\d|50\d\d|51\d\d)\b", VAGRANTFILE)


def test_it_listens_on_loopback_only_and_never_moves_a_port():
    assert 'host_ip: "127.0.0.1", auto_correct: false' in VAGRANTFILE


def test_the_internal_network_is_that_of_the_driver_and_its_addresses_are_left_to_the_seed():
    lab = from_file({"lab": "demo", "driver": "virtualbox"}, "demo")
    assert lab.network == "internal"
    assert 'virtualbox__intnet: "labctl-#{LAB}"' in VAGRANTFILE
    assert "auto_config: false" in VAGRANTFILE
    assert "ip:" not in VAGRANTFILE.replace("host_ip:", "")


def test_it_runs_the_provisioning_of_our_images_and_shares_no_folder():
    assert 'source: "vagrant/provision/."' in VAGRANTFILE
    assert (TOP / "vagrant/provision/provision.sh").is_file()
    assert 'synced_folder ".", "/vagrant", disabled: true' in VAGRANTFILE


@pytest.mark.skipif(shutil.which("vagrant") is None, reason="vagrant is not installed")
@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"AGENTS": "5", "LABCTL_VAGRANT_NETWORK": "nat", "LABCTL_VAGRANT_COMMAND": "none"}, True),
        ({"AGENTS": "100"}, False),
        ({"LABCTL_VAGRANT_NETWORK": "bridged"}, False),
    ],
)
def test_vagrant_takes_it_as_it_is(tmp_path, changes, valid):
    home = {"VAGRANT_HOME": str(tmp_path), "VAGRANT_DOTFILE_PATH": str(tmp_path / ".vagrant")}
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=TOP,
        env={**os.environ, **home, **changes},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) is valid, done.stdout + done.stderr
