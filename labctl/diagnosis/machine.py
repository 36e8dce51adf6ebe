"""Python, nginx, ssh, the state directory, the disk, the ports."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator

from labcore.errors import LabError
from labctl.diagnosis.check import Check
from labctl.ssh.program import find_program
from server_manager.drivers.local.nginx import find_nginx
from server_manager.paths import STATE_DIR_VARIABLE, StatePaths
from server_manager.ports import holder, is_free

OLDEST_PYTHON = (3, 11)
LEAST_FREE_MIB = 500
PORTS = {3000: "server-manager", 8080: "load balancer", 5200: "scaler", 5001: "app of agent-1"}


def examine(paths: StatePaths) -> Iterator[Check]:
    """All of it."""
    yield _python()
    yield from _nginx()
    yield _ssh()
    yield _state_directory(paths)
    yield _disk(paths)
    yield from _ports(paths)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info >= OLDEST_PYTHON:
        return Check("python", "ok", version)
    return Check("python", "bad", f"{version} is too old", "install Python 3.11 or newer")


def _nginx() -> Iterator[Check]:
    try:
        program, version = find_nginx(os.environ.get("PATH", os.defpath))
        yield Check("nginx", "ok", f"{'.'.join(map(str, version))} at {program}")
    except LabError as error:
        yield Check("nginx", "bad", error.message, error.hint)


def _ssh() -> Check:
    program = find_program()
    if program is not None:
        return Check("ssh", "ok", program)
    return Check(
        "ssh",
        "warning",
        "there is no ssh program: labctl ssh runs commands, but opens no shell in a VM",
        "install an OpenSSH client",
    )


def _state_directory(paths: StatePaths) -> Check:
    name = "state directory"
    there = next(p for p in (paths.root, *paths.root.parents) if p.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        fix = f"make it yours, or set {STATE_DIR_VARIABLE} to another directory"
        return Check(name, "bad", f"{there} cannot be written to", fix)
    if there == paths.root and paths.root.stat().st_mode & 0o077:
        return Check(name, "bad", f"{paths.root} is open to others", f"chmod 700 {paths.root}")
    return Check(name, "ok", str(paths.root))


def _disk(paths: StatePaths) -> Check:
    there = next(p for p in (paths.root, *paths.root.parents) if p.exists())
    free_mib = shutil.disk_usage(there).free // (1024 * 1024)
    if free_mib < LEAST_FREE_MIB:
        return Check("disk", "bad", f"{free_mib} MiB are free", f"{LEAST_FREE_MIB} are needed")
    return Check("disk", "ok", f"{free_mib} MiB are free")


def _ports(paths: StatePaths) -> Iterator[Check]:
    taken = [(port, what) for port, what in PORTS.items() if not is_free(port)]
    for port, what in taken:
        text = f"{port} ({what}) is held by {holder(port)}"
        if paths.database.exists():
            yield Check("port", "ok", f"{text}; labctl status shows the ports of your labs")
        else:
            yield Check("port", "warning", text, "labctl will use another one, and say so")
    if not taken:
        yield Check("ports", "ok", f"{', '.join(map(str, PORTS))} are free")
