"""Which processes nginx consists of, told by pid and start time: a pid alone may be reused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

MASTER = "nginx: master process"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting down"


@dataclass(frozen=True)
class Worker:
    """One worker process."""

    pid: int
    started: float  # seconds since the epoch, as the kernel says

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def find_master(pid_file: Path, prefix: Path) -> int | None:
    """The pid of the running master that was started with `-p prefix`; None if there is none.

    A pid file may be stale and its pid somebody else's by now, so the process's title decides.
    """
    try:
        pid = int(pid_file.read_text())
        title = _title(psutil.Process(pid))
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if title.startswith(MASTER) and str(prefix) in title else None


def workers_of(master: int, *, leaving_only: bool = False) -> tuple[Worker, ...]:
    """The workers of that master, those that are shutting down among them; () if it is gone."""
    wanted = LEAVING if leaving_only else WORKER
    found = []
    try:
        children = psutil.Process(master).children()
    except psutil.Error:
        return ()
    for child in children:
        try:
            if _title(child).startswith(wanted):
                found.append(Worker(child.pid, child.create_time()))
        except psutil.Error:
            continue
    return tuple(found)


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
