"""Checks of this machine: what `doctor` says."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from labcore.clock import SystemClock
from labcore.errors import DriverUnusable, LabError
from server_manager.drivers.local.nginx import find_nginx
from server_manager.drivers.registry import DriverContext, make_driver, names
from server_manager.paths import STATE_DIR_VARIABLE, StatePaths
from server_manager.ports import holder, is_free

OLDEST_PYTHON = (3, 11)
LEAST_FREE_MIB = 500
PORTS = {3000: "server-manager", 8080: "load balancer", 5200: "scaler", 5001: "app of agent-1"}
DRIVERS = "driver "  # how the name of a check of a driver begins

Verdict = Literal["ok", "warning", "bad"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. A warning stops nothing; `fix` says what to do."""

    name: str
    verdict: Verdict
    text: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)


def examine() -> list[Check]:
    """Look at everything, in the order of the report. Starts nothing and changes nothing."""
    paths = StatePaths.find()
    return [
        _python(),
        *_nginx(),
        _state_directory(paths),
        _disk(paths),
        *_ports(paths),
        _leftovers(paths),
        *_drivers(paths),
    ]


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """The report for people."""
    for check in checks:
        yield f"{check.verdict:<8} {check.name}: {check.text}"
        if check.fix:
            yield f"{'':<8} fix: {check.fix}"


def exit_code(checks: Sequence[Check]) -> int:
    """0 if all is well or only warned of, 5 if no driver can be used, 1 if something is bad."""
    drivers = [check for check in checks if check.name.startswith(DRIVERS)]
    if not any(check.verdict == "ok" for check in drivers):
        return DriverUnusable.exit_code
    others = (check for check in checks if check not in drivers)
    return LabError.exit_code if any(check.verdict == "bad" for check in others) else 0


def leftovers(
    labs: Path, known: Sequence[str], processes: Sequence[tuple[int, str]]
) -> list[tuple[int, str]]:
    """Of `processes` (pid, command line), those that belong to a lab below `labs` not `known`."""
    prefix = f"{labs}{os.sep}"
    found = []
    for pid, command in processes:
        _, separator, rest = command.partition(prefix)
        lab = rest.split(os.sep, 1)[0].split(" ", 1)[0]
        if separator and lab and lab not in known:
            found.append((pid, lab))
    return found


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


def _leftovers(paths: StatePaths) -> Check:
    known = _known_labs(paths)
    found = leftovers(paths.labs, known, _command_lines()) if known is not None else []
    if not found:
        return Check("leftovers", "ok", "no process of a lab that is gone")
    text = ", ".join(f"{pid} (lab {lab})" for pid, lab in found)
    pids = " ".join(str(pid) for pid, _ in found)
    return Check("leftovers", "bad", f"processes of labs that are gone: {text}", f"kill {pids}")


def _known_labs(paths: StatePaths) -> list[str] | None:
    """The labs there are; None if nobody can say."""
    from labctl.session import running

    if not paths.database.exists():
        return []
    manager = running(paths)
    try:
        return [lab.lab for lab in manager.labs()] if manager else None
    except LabError:
        return None


def _command_lines() -> list[tuple[int, str]]:
    import psutil

    processes = psutil.process_iter(["pid", "cmdline"])
    return [(p.info["pid"], " ".join(p.info["cmdline"] or ())) for p in processes]


def _drivers(paths: StatePaths) -> Iterator[Check]:
    context = DriverContext.of(paths, SystemClock(), os.environ)
    for name in names():
        if name == "fake":
            continue
        try:
            health = make_driver(name, context).health()
        except LabError as error:
            yield Check(DRIVERS + name, "bad", error.message, error.hint)
            continue
        text = health.version if health.ok else health.reason
        yield Check(DRIVERS + name, "ok" if health.ok else "bad", text or "usable", health.fix)
