"""Adopting machines of others: finds them, logs in as they allow, tells each which node it is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from labcore.errors import Conflict, LabError, NotFound, UsageProblem
from labcore.names import check_name
from labcore.wire.lab import AdoptedNode
from labctl.session import Session
from labctl.ssh.endpoint import LOGIN_USER, Endpoint, Learned, Pinned
from server_manager.ssh_keys import USER_KEY, host_key_of

if TYPE_CHECKING:
    from labctl.ssh.connection import Connection

VAGRANT_USER = "vagrant"
SEED_LIMIT_S = 900.0
# Where `labctl-seed` looks for a seed; in its place only when it is whole.
TAKE_SEED = """
set -eu
umask 077
mkdir -p /var/lib/labctl
cat >/var/lib/labctl/seed.tar.new
mv /var/lib/labctl/seed.tar.new /var/lib/labctl/seed.tar
exec /usr/local/sbin/labctl-seed
"""
LOOK = """
cat /sys/class/dmi/id/product_uuid 2>/dev/null || echo unknown
test -x /usr/local/sbin/labctl-seed
"""


@dataclass(frozen=True)
class Outsider:
    """A machine that somebody else made, and how its maker logs in."""

    machine: str  # its name or id at the back end
    user: str
    key_file: Path


def of_vagrant(folder: Path, environ: Mapping[str, str]) -> dict[str, Outsider]:
    """The machines of a folder with a Vagrantfile that exist, by their names there.

    Raises NotFound if none does.
    """
    machines = folder / environ.get("VAGRANT_DOTFILE_PATH", ".vagrant") / "machines"
    home = Path(environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()
    found = {}
    for file in sorted(machines.glob("*/virtualbox/id")):
        own = file.with_name("private_key")
        key = own if own.exists() else home / "insecure_private_key"
        name = check_name(file.parent.parent.name, "machine")
        found[name] = Outsider(file.read_text().strip(), VAGRANT_USER, key)
    if not found:
        raise NotFound(f"Vagrant has made no VirtualBox machine in {folder}", "vagrant up")
    return found


def of_words(words: Sequence[str], user: str, key_file: Path | None) -> dict[str, Outsider]:
    """The machines that `control=NAME agent-1=NAME` mean. Raises UsageProblem."""
    found = {}
    for word in words:
        node, equals, machine = word.partition("=")
        if not equals or not machine:
            raise UsageProblem(f"--vm {word!r} is not like agent-1=NAME")
        if key_file is None:
            raise UsageProblem("nobody can log in without a key", "--ssh-key FILE")
        found[check_name(node, "node")] = Outsider(machine, user, key_file)
    if not found:
        raise UsageProblem("which machines?", "--vagrant DIR, or --vm control=NAME --vm agent-1=…")
    return found


def deliver(
    session: Session, lab: str, node: AdoptedNode, outsider: Outsider, tell: Callable[[str], None]
) -> None:
    """Give a machine its seed, which makes it the node. May be called again.

    Raises what logging in raises, Conflict if another machine answers, LabError if the machine was
    not provisioned or cannot apply its seed.
    """
    with _log_in(session, lab, node, outsider) as connection:
        _check_machine(connection, node)
        seed = session.manager.adoption_seed(lab, node.node)
        done = connection.run(
            ["sudo", "-n", "sh", "-c", TAKE_SEED],
            limit_s=SEED_LIMIT_S,
            tell=tell,
            feed=lambda stdin: _write(stdin, seed),
        )
    if done.returncode != 0:
        raise LabError(
            f"{node.node}: machine {node.machine!r} did not take its seed",
            f"labctl adopt --lab {lab} tries again",
            tuple((done.stderr or done.stdout).splitlines()[-10:]),
        )


def _write(stdin: BinaryIO, seed: bytes) -> None:
    stdin.write(seed)


def _log_in(session: Session, lab: str, node: AdoptedNode, outsider: Outsider) -> Connection:
    """As its maker does, learning its host key, which nobody could know; with our own key and
    nothing but that once it has its seed."""
    from labctl.ssh.connection import connect

    ssh = session.paths.ssh(lab)
    first = Learned(ssh / f"first_{node.id}.pub")
    host, port = "127.0.0.1", node.ssh_port
    theirs = Endpoint(node.node, host, port, outsider.user, outsider.key_file, first)
    if not first.file.exists():
        return connect(theirs, session.clock)
    pin = Pinned(host_key_of(session.paths.ssh, lab, node.node))
    ours = Endpoint(node.node, host, port, LOGIN_USER, ssh / USER_KEY, pin)
    try:
        return connect(ours, session.clock)
    except Conflict:
        return connect(theirs, session.clock)


def _check_machine(connection: Connection, node: AdoptedNode) -> None:
    """That what answers is the machine that is meant: another program may hold its port."""
    looked = connection.run(["sudo", "-n", "sh", "-c", LOOK], limit_s=SEED_LIMIT_S)
    answered = looked.stdout.strip()
    if not answered:
        raise LabError(
            f"{node.node}: {connection.endpoint.user} may not run sudo without a password",
            "name a user who may: --ssh-user",
            tuple(looked.stderr.splitlines()[-3:]),
        )
    if answered != "unknown" and not _same(answered, node.hardware_id):
        raise Conflict(
            f"{node.node}: not {node.machine!r} answers at {connection.endpoint.address}, but the"
            f" machine {answered}",
            "nothing was sent to it; two machines forward the same port",
        )
    if looked.returncode != 0:
        raise LabError(
            f"{node.node}: machine {node.machine!r} is not provisioned: it has no labctl-seed",
            "vagrant provision, or run vagrant/provision/provision.sh in it",
        )


def _same(answered: str, known: str) -> bool:
    """Firmware says UUIDs in either order of bytes."""
    try:
        one, other = uuid.UUID(answered), uuid.UUID(known)
    except ValueError:
        return False
    return other.bytes in (one.bytes, one.bytes_le)
