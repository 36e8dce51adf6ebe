"""Finds, starts and ends the server-manager of a state directory, from outside of it.

Imported by every command of labctl: everything that costs is imported where it is needed.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

from labcore.clock import Clock
from labcore.errors import LabError, Unreachable, from_wire
from labcore.files import read_json, read_secret, tail
from labcore.manager_client import ManagerClient
from server_manager.paths import STATE_DIR_VARIABLE, StatePaths

START_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
LOG_LINES = 12


@dataclass(frozen=True)
class Running:
    """A server-manager that lives."""

    pid: int
    url: str
    created: float  # seconds since 1970; tells it from a later process of the same number


def status(paths: StatePaths) -> Running | None:
    """The server-manager that runs, whether or not it answers; None if none does."""
    said = _said(paths)
    pid, url, created = said.get("pid"), said.get("url"), said.get("created")
    if not isinstance(pid, int) or not isinstance(url, str) or not isinstance(created, float):
        return None
    return Running(pid, url, created) if _lives(pid, created) else None


def ensure_running(paths: StatePaths, clock: Clock, *, port: int | None = None) -> ManagerClient:
    """A client, with the admin token, of the server-manager that runs; one is started if need be.

    Raises the LabError that it ended with, or Unreachable with the last lines of its log. May be
    called by several processes at once: one of them starts it.
    """
    running = status(paths)
    if running is not None:
        client = _client(paths, running.url)
        if client.is_alive():
            return client
    import filelock

    paths.make()
    try:
        with filelock.FileLock(paths.start_lock, timeout=START_LIMIT_S):
            return _start(paths, clock, port)
    except filelock.Timeout as error:
        raise Unreachable(
            "another command is starting the server-manager, and does not come to an end",
            f"see {paths.log}",
        ) from error


def _start(paths: StatePaths, clock: Clock, port: int | None) -> ManagerClient:
    from labcore.waiting import NotYet, wait_until

    started: list[int] = []

    def probe() -> ManagerClient:
        running = status(paths)
        if running is None:
            # One that was about to end may have kept us waiting until now.
            if not started:
                started.append(_spawn(paths, port))
            _check_start(paths, started[0])
            raise NotYet("it says nothing yet")
        client = _client(paths, running.url)
        if not client.is_alive():
            raise NotYet(f"{running.url} does not answer")
        return client

    return wait_until(
        probe,
        name="the server-manager to answer",
        limit_s=START_LIMIT_S,
        clock=clock,
        hint=f"see {paths.log}",
        interval_s=0.01,
    )


def _spawn(paths: StatePaths, port: int | None) -> int:
    from labcore.commands import spawn_detached

    paths.manager.unlink(missing_ok=True)
    argv = [sys.executable, "-I", "-m", "server_manager"]
    argv += ["--port", str(port)] if port is not None else []
    environment = {STATE_DIR_VARIABLE: str(paths.root)}
    return spawn_detached(argv, log=paths.log, env=environment, cwd=paths.root)


def _check_start(paths: StatePaths, pid: int) -> None:
    """Raise what the process that was started ended with, if it has ended."""
    import psutil

    said = _said(paths)
    if "error" in said and said.get("pid") == pid:
        raise from_wire(said, "the server-manager could not start")
    if not psutil.pid_exists(pid):
        raise LabError(
            "the server-manager could not start", f"see {paths.log}", tail(paths.log, LOG_LINES)
        )


def stop(paths: StatePaths, clock: Clock) -> bool:
    """Tell it to end, and wait until it has; False if none ran. Labs go on without it."""
    from labcore.waiting import NotYet, wait_until

    running = status(paths)
    if running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)

    def probe() -> None:
        if _lives(running.pid, running.created):
            raise NotYet(f"process {running.pid} lives")

    wait_until(
        probe, name="the server-manager to end", limit_s=STOP_LIMIT_S, clock=clock, interval_s=0.01
    )
    return True


def _client(paths: StatePaths, url: str) -> ManagerClient:
    return ManagerClient(url, read_secret(paths.admin_token))


def _said(paths: StatePaths) -> dict[str, object]:
    """What the last one left in its file; {} if there is nothing that can be read."""
    try:
        said = read_json(paths.manager)
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _lives(pid: int, created: float) -> bool:
    """Whether that very process lives: its number may have been given to another one since."""
    import psutil

    try:
        process = psutil.Process(pid)
        # Files and kernels round; two processes of one number are never this close.
        same = abs(process.create_time() - created) < 0.5
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
