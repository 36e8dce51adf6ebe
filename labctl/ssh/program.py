"""The ssh program of this machine, with a configuration of our own: ~/.ssh is never touched.

`labs/<lab>/ssh/config` serves rsync, ansible and editors too; it is written again by every command
that uses it, as ports may move.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from labcore.commands import run
from labcore.errors import Conflict, LabError
from labcore.files import write_atomic
from labcore.wire.lab import Lab
from labctl.ssh.endpoint import Endpoint, Pinned, of_node
from server_manager.paths import StatePaths

MULTIPLEX_S = 300  # how long a connection waits for the next command; a slow guest needs 15 s each
LONGEST_SOCKET = 87  # of 104 bytes on macOS, of which ssh adds 17 to make a new one
HANG_UP_LIMIT_S = 5.0

HEAD = """\
# Written by labctl, again and again: changes are lost. For ssh, scp, rsync, ansible, editors:
#   ssh -F {file} {example}
"""
NODE = """
Host {name}
  HostName {host}
  Port {port}
  HostKeyAlias {name}
"""
COMMON = """
Host {names}
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  ForwardAgent no
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  CheckHostIP no
  PreferredAuthentications publickey
  KexAlgorithms ^curve25519-sha256
  ConnectTimeout 120
  ServerAliveInterval 15
  ServerAliveCountMax 4
  LogLevel ERROR
"""
MULTIPLEXED = """\
  ControlMaster auto
  ControlPersist {seconds}
  ControlPath {socket}
"""


@dataclass(frozen=True)
class SshConfig:
    """What ssh is told of the nodes of a lab that have an address."""

    file: Path
    known_hosts: Path
    endpoints: tuple[Endpoint, ...]
    sockets: Path | None  # the folder for multiplexed connections; None: not multiplexed


def find_program() -> str | None:
    """The ssh program, if there is one."""
    return shutil.which("ssh")


def config_of(paths: StatePaths, lab: Lab) -> SshConfig:
    """What would be written. Raises Conflict if no node has an address."""
    endpoints = tuple(
        of_node(paths, lab, server)
        for server in sorted(lab.servers, key=lambda server: server.name)
        if server.endpoints.get("host", {}).get("ssh")
    )
    if not endpoints:
        raise Conflict(f"no node of lab {lab.lab!r} has an SSH address", "labctl status")
    sockets = paths.ssh_sockets
    fits = len(os.fsencode(sockets / _socket(lab.lab, endpoints[0]))) <= LONGEST_SOCKET
    # OpenSSH for Windows has no multiplexing.
    usable = sockets if fits and os.name == "posix" else None
    return SshConfig(paths.ssh_config(lab.lab), paths.known_hosts(lab.lab), endpoints, usable)


def write_config(paths: StatePaths, lab: Lab) -> Path:
    """Write what ssh has to know to reach the nodes of a lab; the configuration's file."""
    config = config_of(paths, lab)
    if config.sockets is not None:
        config.sockets.mkdir(mode=0o700, exist_ok=True)
    write_atomic(config.known_hosts, known_hosts(config), mode=0o600)
    write_atomic(config.file, text(config, lab.lab), mode=0o600)
    return config.file


def known_hosts(config: SshConfig) -> str:
    """The pinned host keys, by node name. Pure."""
    pinned = ((one.name, one.trust) for one in config.endpoints)
    return "".join(
        f"{name} {trust.public}\n" for name, trust in pinned if isinstance(trust, Pinned)
    )


def text(config: SshConfig, lab: str) -> str:
    """The configuration. Pure."""
    first = config.endpoints[0]
    parts = [HEAD.format(file=quoted(config.file), example=first.name)]
    for one in config.endpoints:
        parts.append(NODE.format(name=one.name, host=one.host, port=one.port))
        if config.sockets is not None:
            socket = quoted(config.sockets / _socket(lab, one))
            parts.append(MULTIPLEXED.format(seconds=MULTIPLEX_S, socket=socket))
    parts.append(
        COMMON.format(
            names=" ".join(one.name for one in config.endpoints),
            user=first.user,
            key=quoted(first.key_file),
            known_hosts=quoted(config.known_hosts),
        )
    )
    return "".join(parts)


def hang_up(paths: StatePaths, lab: str) -> None:
    """End the connections that wait for the next command to the nodes of a lab. Never fails."""
    program = find_program()
    for socket in paths.ssh_sockets.glob(f"{_short(lab)}-*"):
        argv = [program or "ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "node"]
        try:
            run(argv, timeout_s=HANG_UP_LIMIT_S)
        except LabError:
            continue  # it ends by itself, soon after its node


def quoted(path: Path) -> str:
    """A path as ssh_config takes it: with blanks, and with per cent signs that are none of its."""
    return f'"{str(path).replace("%", "%%")}"'


def _socket(lab: str, endpoint: Endpoint) -> str:
    """A short name. A node that is made anew has another host key, and so another socket."""
    trust = endpoint.trust
    key = trust.public if isinstance(trust, Pinned) else ""
    return f"{_short(lab)}-{_short(f'{endpoint.name} {endpoint.port} {key}')}"


def _short(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()[:8]
