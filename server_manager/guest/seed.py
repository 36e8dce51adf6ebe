"""The seed of a guest: all that makes a clone of an image this one node of this one lab.

Pure: equal specs make equal seeds. `labctl-seed` (vagrant/provision) reads it inside the guest:

    seed.json              version, id of the server, digest
    manifest               `sha256sum` of every other file; the digest is that of the manifest
    node.json              NodeConfig
    hostname network       who and where it is; `network` only if an address is to be set
    secrets/NAME           0600 in the guest, readable by the services
    environment/SERVICE    secret environment of a service
    ssh/                   host_key[.pub], authorized_keys, sshd.conf; of a control node also
                           client_key, known_hosts, config
    units/*.service        what runs
    nftables.conf          what may be reached
    program.tar.gz         labcore, agent, control_node; `program.digest` is its DIGEST
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from labcore.codec import encode
from labcore.errors import UsageProblem
from labcore.services import SSH_PORT, Runtime, make_unit
from labcore.wire.node import NodeConfig
from server_manager import node_program
from server_manager.drivers.base import Capabilities, ServerSpec, SshIdentity, node_config
from server_manager.guest import firewall, units
from server_manager.guest.network import GuestNetwork

VERSION = 1  # what labctl-seed of the image must know
LOGIN_USER = "lab"
NODE_DIRECTORY = "/var/lib/labctl/node"
PROGRAM_DIRECTORY = "/opt/labctl"
NGINX = "/usr/sbin/nginx"
SECRET_MODE = 0o600
RUNTIME = Runtime(
    module=("/usr/bin/python3", "-I", PROGRAM_DIRECTORY),
    config=f"{NODE_DIRECTORY}/node.json",
    podman=units.PODMAN,
)

# First in sshd's drop-ins, where the first value counts.
SSHD_CONFIG = """\
# Written by labctl-seed.
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
X11Forwarding no
UseDNS no
"""
SSH_CONFIG = f"""\
Host *
    User {LOGIN_USER}
    IdentityFile ~/.ssh/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile ~/.ssh/known_hosts
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
"""


@dataclass(frozen=True)
class SeedFile:
    """One file of a seed."""

    content: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True)
class Seed:
    """The files by their path in the seed, and a digest over all that they say."""

    files: Mapping[str, SeedFile]
    digest: str

    def tar(self) -> bytes:
        """All of it as a tar: what goes to /var/lib/labctl/seed.tar where there is no disc."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, file in self.files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(file.content), file.mode
                tar.addfile(member, io.BytesIO(file.content))
        return buffer.getvalue()


def make_seed(spec: ServerSpec, capabilities: Capabilities, network: GuestNetwork) -> Seed:
    """The seed of a server. Raises UsageProblem if it has no SSH identity."""
    if spec.ssh is None:
        raise UsageProblem(f"{spec.ref.name} has no SSH identity", "a guest needs one")
    node = guest_config(spec, capabilities, network)
    files = {
        "node.json": _text(_json(encode(node)), 0o640),
        "hostname": _text(f"{spec.ref.name}\n"),
        "nftables.conf": _text(_firewall(spec, network)),
        "program.digest": _text(f"{node_program.digest()}\n"),
        "program.tar.gz": SeedFile(node_program.archive()),
        **{f"secrets/{name}": _text(text, SECRET_MODE) for name, text in spec.secrets.items()},
        **_network(network),
        **_ssh(spec.ssh, network),
        **_units(spec, node),
    }
    return _sealed(spec.ref.id, files)


def guest_config(spec: ServerSpec, capabilities: Capabilities, network: GuestNetwork) -> NodeConfig:
    """The node config of a guest."""
    node = node_config(
        spec,
        directory=NODE_DIRECTORY,
        capabilities=capabilities,
        nginx=NGINX,
        manager_host=network.manager_host,
    )
    hosts = dict.fromkeys((*node.allowed_hosts, spec.ref.name, *network.names))
    return replace(node, allowed_hosts=tuple(hosts))


def _sealed(server_id: str, files: Mapping[str, SeedFile]) -> Seed:
    """Add what the guest tells a whole seed by."""
    files = dict(sorted(files.items()))
    sums = {name: hashlib.sha256(file.content).hexdigest() for name, file in files.items()}
    manifest = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    head = {"version": VERSION, "id": server_id, "digest": digest}
    return Seed({"seed.json": _text(_json(head)), "manifest": _text(manifest), **files}, digest)


def _firewall(spec: ServerSpec, network: GuestNetwork) -> str:
    host_ports: tuple[int, ...] | None = None
    if spec.manager_port is not None:
        peers = (address.rpartition(":") for address in network.peers.values())
        by_host = (int(port) for host, _, port in peers if host == network.manager_host)
        host_ports = (spec.manager_port, *spec.host_ports, *by_host)
    return firewall.rules(
        (SSH_PORT, *(forward.node_port for forward in spec.forwards)),
        network.sources,
        manager_host=network.manager_host,
        host_ports=host_ports,
    )


def _network(network: GuestNetwork) -> dict[str, SeedFile]:
    if network.mac is None or network.address is None:
        return {}
    return {"network": _text(f"mac={network.mac.lower()}\naddress={network.address}\n")}


def _ssh(identity: SshIdentity, network: GuestNetwork) -> dict[str, SeedFile]:
    files = {
        "ssh/host_key": _text(identity.host_key, SECRET_MODE),
        "ssh/host_key.pub": _text(f"{identity.host_public}\n"),
        "ssh/authorized_keys": _text(_lines(identity.authorized)),
        "ssh/sshd.conf": _text(SSHD_CONFIG),
    }
    if identity.client_key is not None:
        files["ssh/client_key"] = _text(identity.client_key, SECRET_MODE)
        files["ssh/known_hosts"] = _text(_lines(identity.known_hosts))
        files["ssh/config"] = _text(_peers(network.peers) + SSH_CONFIG)
    return files


def _peers(peers: Mapping[str, str]) -> str:
    lines = []
    for name, address in sorted(peers.items()):
        host, _, port = address.rpartition(":")
        lines += [f"Host {name}", f"    HostName {host}", f"    Port {port}"]
        lines += [f"    HostKeyAlias {name}"]
    return _lines(lines)


def _units(spec: ServerSpec, node: NodeConfig) -> dict[str, SeedFile]:
    files = {}
    for service in spec.services:
        unit = make_unit(service, node, RUNTIME)
        name = units.unit_name(unit.name)
        files[f"units/{name}"] = _text(units.unit_text(service, unit, node))
        if unit.secret_env:
            by_path = {path: spec.secrets[name] for name, path in node.secrets.items()}
            values = {key: by_path[path].strip() for key, path in unit.secret_env.items()}
            file = _text(units.environment_text(values), SECRET_MODE)
            files[f"environment/{unit.name}"] = file
    return files


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _lines(lines: list[str] | tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _text(content: str, mode: int = 0o644) -> SeedFile:
    return SeedFile(content.encode(), mode)
