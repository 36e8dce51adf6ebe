"""What a guest is told: everything it needs, nothing it must not know, the same for the same."""

import dataclasses
import hashlib
import io
import json
import re
import tarfile

import pycdlib
import pytest

from labcore.codec import decode
from labcore.errors import UsageProblem
from labcore.services import APP, with_command
from labcore.wire.node import NodeConfig
from server_manager import node_program
from server_manager.guest.iso import LABEL, write_iso
from server_manager.guest.seed import Seed, make_seed
from tests.guest.specs import CAPABILITIES, NETWORK, Keys, agent, control


@pytest.fixture(scope="module")
def keys():
    return Keys()


def text(seed: Seed, name: str) -> str:
    return seed.files[name].content.decode()


def test_the_same_spec_makes_the_same_seed(keys):
    one, other = (make_seed(agent(keys), CAPABILITIES, NETWORK) for _ in range(2))
    assert one == other
    assert one.tar() == other.tar()


@pytest.mark.parametrize(
    "change",
    [
        {"secrets": {"agent-token": "another"}},
        {"services": (APP,)},
        {"forwards": ()},
        {"manager_port": 3001},
    ],
)
def test_any_difference_makes_another_digest(keys, change):
    one = agent(keys)
    other = dataclasses.replace(one, **change)
    assert (
        make_seed(one, CAPABILITIES, NETWORK).digest
        != make_seed(other, CAPABILITIES, NETWORK).digest
    )


def test_a_guest_can_tell_that_a_seed_is_whole(keys):
    seed = make_seed(control(keys), CAPABILITIES, NETWORK)
    head = json.loads(text(seed, "seed.json"))
    manifest = text(seed, "manifest")
    assert head["digest"] == seed.digest == hashlib.sha256(manifest.encode()).hexdigest()
    lines = (line.split("  ") for line in manifest.splitlines())
    assert {name: digest for digest, name in lines} == {
        name: hashlib.sha256(file.content).hexdigest()
        for name, file in seed.files.items()
        if name not in ("seed.json", "manifest")
    }


def test_the_node_config_is_one_for_a_guest(keys):
    seed = make_seed(control(keys), CAPABILITIES, NETWORK)
    node = decode(NodeConfig, json.loads(text(seed, "node.json")))
    assert node.listen == {"nginx": "0.0.0.0:80", "scaler": "0.0.0.0:5200"}
    assert node.manager_url == "http://10.0.2.2:3000"
    assert set(node.allowed_hosts) >= {"127.0.0.1", "control", "10.93.0.11"}
    assert node.secrets["scaler-token"] == "/var/lib/labctl/node/secrets/scaler-token"


def test_only_a_control_node_gets_a_key_to_others(keys):
    seed = make_seed(control(keys, "agent-1", "agent-2"), CAPABILITIES, NETWORK)
    assert text(seed, "ssh/client_key") == keys.control.private
    assert [line.split()[0] for line in text(seed, "ssh/known_hosts").splitlines()] == [
        "agent-1",
        "agent-2",
    ]
    other = make_seed(agent(keys), CAPABILITIES, NETWORK)
    assert not {"ssh/client_key", "ssh/known_hosts", "ssh/config"} & other.files.keys()
    assert keys.control.public in text(other, "ssh/authorized_keys")


def test_known_peers_are_reached_by_name_under_their_pinned_keys(keys):
    network = dataclasses.replace(NETWORK, peers={"agent-1": "10.0.2.2:2224"})
    config = text(make_seed(control(keys, "agent-1"), CAPABILITIES, network), "ssh/config")
    first = config.split("Host *")[0].split()
    values = {"Host": "agent-1", "HostName": "10.0.2.2", "Port": "2224", "HostKeyAlias": "agent-1"}
    assert dict(zip(first[::2], first[1::2], strict=True)) == values


def test_an_address_is_set_only_where_it_is_ours_to_set(keys):
    seed = make_seed(agent(keys), CAPABILITIES, NETWORK)
    assert text(seed, "network") == "mac=08:00:27:00:00:0b\naddress=10.93.0.11/16\n"
    network = dataclasses.replace(NETWORK, mac=None)
    assert "network" not in make_seed(agent(keys), CAPABILITIES, network).files


def test_secrets_stand_in_their_own_files_and_nowhere_else(keys):
    app = with_command(APP, "serve", {"PASSWORD": "secret:db-password", "MODE": "x"})
    spec = agent(keys, app=app, **{"db-password": 'p"w$1 \\ c'})
    seed = make_seed(spec, CAPABILITIES, NETWORK)
    holders = {name for name, file in seed.files.items() if re.search(rb"w\\?\$1 ", file.content)}
    assert holders == {"secrets/db-password", "environment/app"}
    assert all(seed.files[name].mode == 0o600 for name in holders)
    assert text(seed, "environment/app") == 'PASSWORD="p\\"w\\$1 \\\\ c"\n'
    unit = text(seed, "units/labctl-app.service")
    assert "EnvironmentFile=/var/lib/labctl/node/environment/app" in unit.splitlines()
    assert seed.files["ssh/host_key"].mode == 0o600
    assert keys.host("agent-1").private not in repr(seed)


def test_the_program_is_told_by_its_sources(keys):
    seed = make_seed(agent(keys), CAPABILITIES, NETWORK)
    with tarfile.open(fileobj=io.BytesIO(seed.files["program.tar.gz"].content)) as tar:
        inside = tar.extractfile(node_program.DIGEST_FILE)
        assert inside is not None
        assert inside.read() == seed.files["program.digest"].content


def test_a_guest_needs_an_identity(keys):
    with pytest.raises(UsageProblem, match="agent-1 has no SSH identity"):
        make_seed(dataclasses.replace(agent(keys), ssh=None), CAPABILITIES, NETWORK)


def test_tar_and_disc_hold_the_same_files(keys, tmp_path):
    seed = make_seed(control(keys, "agent-1"), CAPABILITIES, NETWORK)
    with tarfile.open(fileobj=io.BytesIO(seed.tar())) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        assert {name: file.read() for name, file in members.items() if file} == {
            name: file.content for name, file in seed.files.items()
        }
    path = tmp_path / "seed.iso"
    write_iso(seed, path)
    assert path.stat().st_mode & 0o777 == 0o600
    # What the guest looks at to see that the disc is another.
    assert seed.digest.encode() in path.read_bytes()[: 17 * 2048]
    assert on_disc(path) == {name: file.content for name, file in seed.files.items()}


def on_disc(path) -> dict[str, bytes]:
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    try:
        assert iso.pvd.volume_identifier.decode().strip() == LABEL
        found = {}
        for folder, _, files in iso.walk(rr_path="/"):
            for name in files:
                place = f"{folder.rstrip('/')}/{name}"
                content = io.BytesIO()
                iso.get_file_from_iso_fp(content, rr_path=place)
                found[place.removeprefix("/")] = content.getvalue()
        return found
    finally:
        iso.close()
