"""The processes of servers: found by their marks, whoever their parents are now.

Two marks, either is enough. The environment of every process of a server holds the server's id
(`plan.MARK`). nginx writes its title over its environment, so a process also counts that is in the
session of the server's supervisor *and* works below the server's folder: no pid is given again
while the session of that number has a member, and nobody's shell is in that session.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from labcore.clock import Clock
from labcore.waiting import NotYet, wait_until
from server_manager.drivers.local.plan import MARK, SUPERVISOR_MODULE

KILL_LIMIT_S = 10.0
FREEZE_LIMIT_S = 5.0


@dataclass(frozen=True)
class Marks:
    """What the processes of one server are known by."""

    server_id: str
    folder: Path
    session: int | None  # the pid of its supervisor, dead or alive; None if it never had one


def supervisor(marks: Marks) -> psutil.Process | None:
    """The supervisor of a server, if it lives.

    A pid alone may have been given to another process, and a create time changes with every step
    of the clock (psutil computes it from the time of day): so the process itself is asked.
    """
    if marks.session is None:
        return None
    try:
        process = psutil.Process(marks.session)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        ours = process.environ().get(MARK) == marks.server_id
        return process if ours and SUPERVISOR_MODULE in process.cmdline() else None
    except psutil.Error:
        return None


def is_frozen(process: psutil.Process) -> bool:
    """Whether it was stopped by SIGSTOP."""
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def members(marks: Marks) -> list[psutil.Process]:
    """Every living process of a server; never our own."""
    session = None if _leads_anothers_session(marks) else marks.session
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            marked = _has_mark(process, marks) or _is_in_session(process, session, marks.folder)
            if pid != os.getpid() and marked and _lives(process):
                found.append(process)
    return found


def kill(marks: Marks, clock: Clock) -> None:
    """Kill every process of a server, and those they fork meanwhile; none: nothing.

    Raises TimedOut if one is left after `KILL_LIMIT_S` seconds.
    """
    last = supervisor(marks)
    if last is not None:
        # It must neither start anything again nor, by its own death, tell its children to end.
        _signal(last, signal.SIGSTOP)

    def none_left() -> None:
        left = members(marks)
        for process in sorted(left, key=lambda process: process == last):
            _signal(process, signal.SIGKILL)
        if left:
            raise NotYet(_listed(left))

    wait_until(
        none_left,
        name="processes of the server end",
        limit_s=KILL_LIMIT_S,
        clock=clock,
        hint="a process that SIGKILL does not end waits for a device: see it with ps",
        interval_s=0.01,
    )


def freeze(marks: Marks, clock: Clock) -> None:
    """Stop every process of a server where it is, its supervisor first; frozen ones stay so.

    Raises TimedOut if one still runs after `FREEZE_LIMIT_S` seconds.
    """
    first = supervisor(marks)
    if first is not None:  # or it would see its children stop
        _signal(first, signal.SIGSTOP)

    def all_frozen() -> None:
        # A parent in vfork cannot stop before its child has begun its program: freezing that child
        # first would leave both waiting for ever.
        if first is not None and _lives(first) and not is_frozen(first):
            raise NotYet(_listed([first]))
        moving = [process for process in members(marks) if not is_frozen(process)]
        for process in moving:
            _signal(process, signal.SIGSTOP)
        if moving:
            raise NotYet(_listed(moving))

    wait_until(
        all_frozen,
        name="processes of the server freeze",
        limit_s=FREEZE_LIMIT_S,
        clock=clock,
        interval_s=0.01,
    )


def thaw(marks: Marks) -> None:
    """Let every process of a server go on, its supervisor last: until then it counts as frozen."""
    last = supervisor(marks)
    for process in members(marks):
        if process != last:
            _signal(process, signal.SIGCONT)
    if last is not None:
        _signal(last, signal.SIGCONT)


def _has_mark(process: psutil.Process, marks: Marks) -> bool:
    try:
        return bool(process.environ().get(MARK) == marks.server_id)
    except (psutil.Error, OSError):
        return False


def _is_in_session(process: psutil.Process, session: int | None, folder: Path) -> bool:
    try:
        return (
            session is not None
            and os.getsid(process.pid) == session
            and Path(process.cwd()).is_relative_to(folder)
        )
    except (psutil.Error, OSError):
        return False


def _leads_anothers_session(marks: Marks) -> bool:
    """Whether the pid of our dead supervisor was given to a process that is not ours."""
    if marks.session is None:
        return False
    try:
        leader = psutil.Process(marks.session)
        if not _lives(leader) or _has_mark(leader, marks):
            return False
        # A process that was killed loses its memory, and with it its mark, a little before it is a
        # zombie: without a command line it says nothing of whose it was, and leads nobody for long.
        return bool(leader.cmdline())
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
    return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    # psutil looks whether the pid is still the same process before it sends.
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def _listed(processes: list[psutil.Process]) -> str:
    return "pid " + ", ".join(str(process.pid) for process in processes[:5])
