"""How much CPU time and memory the node has used: of its process tree, or of its whole machine."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from labcore.clock import Clock
from labcore.wire.metrics import Memory

MIB = 1024 * 1024
RESCAN_S = 2.0
# Linux counts iowait as idle time, and guest time in `user` already.
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Reading:
    """What a meter says when it is asked."""

    busy_s: float  # CPU seconds spent since it was last asked; 0 the first time
    memory: Memory


class Meter(Protocol):
    """Something that can be read. Every call goes on where the last one ended; one thread only."""

    capacity: float  # CPU seconds in a second that are 100 %

    def read(self) -> Reading:
        """What was spent since the last call. Raises psutil.Error or OSError if it cannot tell."""
        ...


class Ledger:
    """Turns readings of growing counters into what was added to them between two readings.

    A counter's first reading is where it begins: what it had before is nobody's. What a counter
    adds after its last reading, before it goes away, is lost. So the sum of all answers is the sum,
    over all counters, of the highest reading minus the first, and no answer is ever negative.
    """

    def __init__(self) -> None:
        self._highest: dict[Hashable, float] = {}

    def added(self, readings: Mapping[Hashable, float]) -> float:
        """What the counters gained since the last call, in their unit. A missing one is gone."""
        highest = {key: max(now, self._highest.get(key, now)) for key, now in readings.items()}
        gained = sum(now - self._highest.get(key, now) for key, now in highest.items())
        self._highest = highest
        return gained


class TreeMeter:
    """The processes of a node that has no machine of its own: a root and all its descendants.

    Memory is the sum of their resident sets, so pages that they share count more than once.
    """

    def __init__(self, root_pid: int, cpus: float, memory_mib: int, clock: Clock) -> None:
        self.capacity = cpus
        self._root = psutil.Process(root_pid)
        self._total = memory_mib * MIB
        self._clock = clock
        self._ledger = Ledger()
        self._known = {root_pid: self._root}
        self._rescan_at = clock.monotonic()

    def read(self) -> Reading:
        """See Meter. A process counts from the moment it was first seen, at most 2 s late."""
        if self._clock.monotonic() >= self._rescan_at:
            self._rescan()
        spent: dict[Hashable, float] = {}
        used = 0
        for process in tuple(self._known.values()):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    used += process.memory_info().rss
            except psutil.NoSuchProcess:
                # Most likely something takes its place at once: look then, not in two seconds.
                del self._known[process.pid]
                self._rescan_at = self._clock.monotonic()
            except psutil.AccessDenied:
                pass  # macOS tells nothing of a process that runs as somebody else
            else:
                spent[process] = times.user + times.system
        if self._root.pid not in self._known:
            raise psutil.NoSuchProcess(self._root.pid, msg="the node's supervisor is gone")
        return Reading(self._ledger.added(spent), self._memory(used))

    def _rescan(self) -> None:
        """Find the tree's processes. One that is known stays while it lives.

        The kernel may leave out a child while another one ends, and a daemon that leaves its parent
        is still the node's.
        """
        alive = {pid: p for pid, p in self._known.items() if p.is_running()}
        for pid in _descendants(self._root):
            if pid not in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    alive[pid] = psutil.Process(pid)
        self._known = alive
        self._rescan_at = self._clock.monotonic() + RESCAN_S

    def _memory(self, used: int) -> Memory:
        available = max(0, self._total - used)
        return Memory(self._total, available, _percent(self._total - available, self._total))


class SystemMeter:
    """The whole machine, which is the node's own; `cpus`: as much as it may use, if not all."""

    def __init__(self, cpus: float | None = None) -> None:
        seen = float(psutil.cpu_count() or 1)
        self.capacity = seen if cpus is None else min(seen, cpus)
        self._ledger = Ledger()

    def read(self) -> Reading:
        """See Meter."""
        times = psutil.cpu_times()
        busy = sum(getattr(times, kind, 0.0) for kind in _BUSY)
        memory = psutil.virtual_memory()
        return Reading(
            self._ledger.added({"machine": busy}),
            Memory(
                memory.total,
                memory.available,
                _percent(memory.total - memory.available, memory.total),
            ),
        )


def _descendants(root: psutil.Process) -> list[int]:
    """The pids below a process, parents first.

    psutil finds them by reading every process of the machine (50 µs each, so 25 ms on a laptop
    that runs 500); Linux lists the children of a thread in a file, where built to do so.
    """
    if not Path(f"/proc/{root.pid}/task/{root.pid}/children").exists():
        return [child.pid for child in root.children(recursive=True)]
    found: list[int] = []
    seen = [root.pid]
    while seen:
        below = _children(seen.pop())
        found += below
        seen += below
    return found


def _children(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # a thread or the whole process ended meanwhile
    return pids


def _percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 2)
