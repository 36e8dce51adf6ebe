"""The init of one server of driver `local`: `python -I -m <this module> <folder of the server>`.

It starts the services of `units.json`, starts each again when it ends, and on SIGTERM stops them
in reverse order and exits 0. It imports nothing but labcore: there is one for every server.

    waiting ──due──▶ preparing ──exit 0──▶ running ──exit──▶ waiting (with a growing pause)
                         └──── exit ≠ 0, or too long ──────────▶ waiting
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path

from labcore import commands
from labcore.clock import Clock, SystemClock, rfc3339
from labcore.codec import decode
from labcore.errors import LabError
from labcore.files import read_json, write_json
from labcore.services import Unit
from server_manager.drivers.local.plan import (
    LOGS,
    SUPERVISOR_FILE,
    UNITS_FILE,
    Plan,
    start_order,
)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LIFE_THAT_COUNTS_S = 10.0  # who lived so long starts with the first pause again
PREPARE_LIMIT_S = 60.0
MOST_LOG_BYTES = 1024 * 1024  # looked at when a service starts


class Phase(Enum):
    """What runs of a service now."""

    WAITING = "waiting"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"


class Child:
    """One service of the server: what runs of it, and when it will be started or killed."""

    def __init__(self, unit: Unit, plan: Plan, directory: Path, clock: Clock) -> None:
        self.unit = unit
        self.phase = Phase.WAITING
        self.pid: int | None = None
        self.due: float | None = clock.monotonic()  # to start if WAITING, else to be killed
        self.tried = False  # started once, or failed to: those after it may start
        self._launcher = plan.launcher
        self._log = directory / LOGS / f"{unit.name}.log"
        self._clock = clock
        self._pause_s = FIRST_PAUSE_S
        self._started = 0.0

    def start(self) -> None:
        """Begin: run what prepares it, or itself if nothing does."""
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > MOST_LOG_BYTES:
                self._log.replace(self._log.with_suffix(".log.1"))
        if self.unit.prepare is None:
            self._start_main()
        else:
            self._spawn(self.unit.prepare, Phase.PREPARING)
            self.due = self._clock.monotonic() + PREPARE_LIMIT_S

    def ended(self, status: int) -> None:
        """Its process was reaped with this wait status: kill the rest of its group, go on."""
        if self.pid is not None:
            commands.kill_group(self.pid)
        self.pid = None
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        if self.phase is Phase.STOPPING:
            self.phase, self.due = Phase.WAITING, None
        elif self.phase is Phase.PREPARING and code == 0:
            self._start_main()
        else:
            what = "its preparation" if self.phase is Phase.PREPARING else "it"
            self._wait_again(f"{what} ended with {how}")

    def stop(self) -> None:
        """Ask it to end; it is killed when its grace is over. Not running: it stays so."""
        if self.pid is None:
            self.phase, self.due = Phase.WAITING, None
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, self.unit.stop_signal)
        self.phase, self.due = Phase.STOPPING, self._clock.monotonic() + self.unit.stop_grace_s

    def kill(self) -> None:
        """Kill its whole group; `ended` follows when it is reaped."""
        if self.pid is not None:
            commands.kill_group(self.pid)
        self.due = None

    def _start_main(self) -> None:
        self._spawn(self.unit.argv, Phase.RUNNING)
        self.tried = True

    def _spawn(self, argv: Sequence[str], phase: Phase) -> None:
        self._started, self.phase, self.due = self._clock.monotonic(), phase, None
        folder = Path(self.unit.directory)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with self._log.open("ab") as output:
                self.pid = commands.spawn(
                    (*self._launcher, *argv), output=output, env=self.unit.environment(), cwd=folder
                )
        except (OSError, LabError) as error:
            self._wait_again(str(error))

    def _wait_again(self, reason: str) -> None:
        now = self._clock.monotonic()
        if now - self._started >= LIFE_THAT_COUNTS_S:
            self._pause_s = FIRST_PAUSE_S
        self.phase, self.due, self.tried = Phase.WAITING, now + self._pause_s, True
        self._note(f"{reason}; it is started again in {self._pause_s:g} s")
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _note(self, text: str) -> None:
        line = f"{rfc3339(self._clock.now())} labctl: {self.unit.name}: {text}\n"
        with contextlib.suppress(OSError), self._log.open("a") as log:
            log.write(line)


class Supervisor:
    """The children of one server. `run` returns when it was told to stop and all have ended."""

    def __init__(self, plan: Plan, directory: Path, clock: Clock) -> None:
        self._clock = clock
        self._stopping = False
        self._children = {
            unit.name: Child(unit, plan, directory, clock) for unit in start_order(plan.units)
        }

    def run(self) -> None:
        """Start everything and keep it running until SIGTERM or SIGINT."""
        with _signals(self._told_to_stop) as alarm:
            try:
                while not self._over():
                    self._turn()
                    # A signal that came since then has left a byte in the pipe.
                    select.select([alarm], [], [], self._seconds_to_next())
                    with contextlib.suppress(BlockingIOError):
                        os.read(alarm, 4096)
                    self._reap()
            finally:
                for child in self._children.values():
                    child.kill()

    def _told_to_stop(self) -> None:
        self._stopping = True

    def _over(self) -> bool:
        return self._stopping and all(child.pid is None for child in self._children.values())

    def _turn(self) -> None:
        now = self._clock.monotonic()
        for child in self._children.values():
            due = child.due is not None and child.due <= now
            if due and child.phase is not Phase.WAITING:
                child.kill()
            elif due and not self._stopping and self._may_start(child):
                child.start()
        if self._stopping:
            for child in self._children.values():
                if child.phase is not Phase.STOPPING and self._may_stop(child):
                    child.stop()

    def _may_start(self, child: Child) -> bool:
        return all(self._children[n].tried for n in child.unit.after if n in self._children)

    def _may_stop(self, child: Child) -> bool:
        return not any(
            other.pid is not None and child.unit.name in other.unit.after
            for other in self._children.values()
        )

    def _seconds_to_next(self) -> float | None:
        now = self._clock.monotonic()
        dues = [c.due for c in self._children.values() if c.due is not None and self._counts(c)]
        return max(0.0, min(dues) - now) if dues else None

    def _counts(self, child: Child) -> bool:
        if child.phase is Phase.WAITING:
            return not self._stopping and self._may_start(child)
        return True

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values() if child.pid is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].ended(status)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[int]:
    """While it lasts, SIGTERM and SIGINT call `stop`, and any signal makes the pipe readable.

    A pipe and not sigtimedwait, which macOS does not have.
    """
    alarm, bell = os.pipe()
    os.set_blocking(alarm, False)
    os.set_blocking(bell, False)
    old_bell = signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    old = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGTERM, lambda *_: stop()),
            (signal.SIGINT, lambda *_: stop()),
            (signal.SIGCHLD, lambda *_: None),
        )
    }
    try:
        yield alarm
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_bell)
        os.close(alarm)
        os.close(bell)


def main(argv: Sequence[str]) -> int:
    """Supervise the server whose folder `argv[0]` is, until told to stop."""
    directory = Path(argv[0])
    plan = decode(Plan, read_json(directory / UNITS_FILE))
    supervisor = Supervisor(plan, directory, SystemClock())
    write_json(directory / SUPERVISOR_FILE, {"pid": os.getpid()}, mode=0o600)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
