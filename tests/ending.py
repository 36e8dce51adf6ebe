"""When a process of a test has ended."""

import psutil

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until


def has_ended(pid: int) -> bool:
    """Dead; whoever has to reap it may take its time. It may go between any two looks."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_for_end(pid: int, limit_s: float = 20.0) -> None:
    """Raises TimedOut."""

    def probe() -> None:
        if not has_ended(pid):
            raise NotYet(f"{pid} lives")

    wait_until(probe, name=f"process {pid} to end", limit_s=limit_s, clock=SystemClock())
