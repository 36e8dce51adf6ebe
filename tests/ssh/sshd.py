"""A real sshd on loopback: the current user's, on a free port, with keys made for the test."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from labctl.ssh.endpoint import Endpoint, Limits, Pinned
from server_manager.ssh_keys import KeyPair, make_pair

PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
QUICK = Limits(connect_s=5, banner_s=5, handshake_s=20, auth_s=20, idle_s=20)

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={folder}/bin:/usr/bin:/bin
Subsystem sftp internal-sftp
"""
SUDO = """\
#!/bin/sh
printf '%s\n' "$*" > {folder}/asked
[ -e {folder}/refuse ] && {{ echo "sudo: no" >&2; exit 1; }}
cat {folder}/journal
case "$*" in *--follow*) sleep 60;; esac
"""


@dataclass
class Sshd:
    """Where it listens, its keys, and its process."""

    folder: Path
    port: int
    host_key: KeyPair
    process: subprocess.Popen[bytes]

    @property
    def key_file(self) -> Path:
        return self.folder / "user"

    def endpoint(self, **changes: object) -> Endpoint:
        given = {
            "name": "agent-1",
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key_file": self.key_file,
            "trust": Pinned(self.host_key.public),
            "limits": QUICK,
        }
        return Endpoint(**{**given, **changes})  # type: ignore[arg-type]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    folder: Path,
    *,
    host_key: KeyPair | None = None,
    port: int | None = None,
    user: KeyPair | None = None,
) -> Sshd:
    """Start one and wait until it listens."""
    assert PROGRAM is not None
    host_key = host_key or make_pair("host")
    user = user or make_pair("user")
    write_key(folder / "host", host_key)
    write_key(folder / "user", user)
    (folder / "authorized").write_text(user.public + "\n")
    port = port or free_port()
    (folder / "bin").mkdir()
    (folder / "bin" / "sudo").write_text(SUDO.format(folder=folder))
    (folder / "bin" / "sudo").chmod(0o755)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if Path("/run").exists() and getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # it refuses to start without, as root
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "-D", "-e", "-f", str(folder / "config")], stdout=log, stderr=log
        )
    sshd = Sshd(folder, port, host_key, process)

    def listens() -> None:
        assert process.poll() is None, sshd.log()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                raise NotYet(sshd.log())

    wait_until(listens, name="sshd", limit_s=20, clock=SystemClock())
    return sshd


def write_key(path: Path, pair: KeyPair) -> None:
    path.write_text(pair.private)
    path.chmod(0o600)
