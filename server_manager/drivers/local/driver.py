"""The driver `local`: every server is a folder and a supervisor's processes, on loopback.

`create` makes the folder (`folder`), `start` writes what the supervisor runs (`plan`) and starts it
detached, the truth about states is asked from the operating system (`processes`) each time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from labcore import commands
from labcore.clock import Clock
from labcore.errors import Conflict, DriverFailed, DriverUnusable, NotFound, TimedOut
from labcore.files import tail
from labcore.names import is_name
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from labcore.wire.node import NodeConfig
from server_manager.drivers.base import (
    Capabilities,
    DriverHealth,
    DriverServer,
    ServerRef,
    ServerSpec,
    may_take_over,
    sealed,
)
from server_manager.drivers.local import processes
from server_manager.drivers.local.folder import Broken, Folder, Unreadable
from server_manager.drivers.local.nginx import find_nginx
from server_manager.drivers.local.plan import MARK, SUPERVISOR_MODULE, Plan
from server_manager.drivers.local.processes import Marks
from server_manager.drivers.local.run_files import run_files

CAPABILITIES = Capabilities(
    shares_host_network=True,
    scope="tree",
    access="local",
    gates=("created", "booted", "healthy", "serving"),
    boot_limit_s=60.0,
    pause=True,
    console_log=True,
)
SUPERVISOR_LOG = "supervisor"
START_LIMIT_S = 15.0  # until a supervisor says that it runs; it takes 0.1 s
STOP_MARGIN_S = 5.0  # what a stop may take on top of the services' own grace


@dataclass(frozen=True)
class Found:
    """What stands where a server should be: nothing, if `spec` and `problem` are None."""

    folder: Folder
    marks: Marks
    spec: ServerSpec | None  # its own
    problem: Broken | Unreadable | None = None
    is_anothers: bool = False  # the folder has another id: never touched


class LocalDriver:
    """See Driver, Pausing and ConsoleLog."""

    name = "local"

    def __init__(
        self, node_directory: Callable[[ServerRef], Path], *, clock: Clock, search_path: str
    ) -> None:
        self._node_directory = node_directory
        self._clock = clock
        self._search_path = search_path

    def health(self) -> DriverHealth:
        """See Driver."""
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        if os.name != "posix":
            fix = "install WSL2 (`wsl --install`) and run labctl in it"
            return DriverHealth(False, system, "processes cannot be servers on Windows", fix)
        try:
            program, version = find_nginx(self._search_path)
        except DriverUnusable as error:
            return DriverHealth(False, system, error.message, error.hint)
        return DriverHealth(True, f"nginx {'.'.join(map(str, version))} ({program}), {system}")

    def capabilities(self) -> Capabilities:
        """See Driver."""
        return CAPABILITIES

    def create(self, spec: ServerSpec) -> None:
        """See Driver. Raises DriverUnusable if it needs nginx and there is none."""
        found = self._find(spec.ref)
        if isinstance(found.problem, Unreadable):
            raise found.problem
        if found.is_anothers:
            raise Conflict(f"{found.folder.path} belongs to another server", "destroy that first")
        if found.spec is None:
            self._run_files(found.folder, spec)  # refuses a bad spec before anything is made
            if found.problem is not None:  # while its supervisor's pid is still written there
                processes.kill(found.marks, self._clock)
            found.folder.make(spec)
        elif found.spec == sealed(spec):
            return
        elif may_take_over(found.spec, sealed(spec)):
            found.folder.write_spec(spec)
        else:
            raise Conflict(f"{spec.ref.name} exists and was made otherwise", "destroy it first")

    def start(self, ref: ServerRef) -> None:
        """See Driver. Returns when its supervisor runs."""
        found, spec = self._existing(ref)
        running = processes.supervisor(found.marks)
        if running is None:
            processes.kill(found.marks, self._clock)
            found.folder.forget_supervisor()
            found.folder.write_run_files(*self._run_files(found.folder, spec))
            self._spawn_supervisor(found.folder)
        elif processes.is_frozen(running):
            processes.thaw(found.marks)

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        """See Driver."""
        found = self._find(ref)
        if found.spec is not None and not force:
            self._ask_to_end(found.marks, found.spec)
        processes.kill(found.marks, self._clock)
        if not found.is_anothers:
            found.folder.forget_supervisor()

    def destroy(self, ref: ServerRef) -> None:
        """See Driver. Services get no grace: what they would save goes with them."""
        found = self._find(ref)
        processes.kill(found.marks, self._clock)
        if found.is_anothers:
            found.folder.remove_leftovers()
        else:
            found.folder.remove()

    def get(self, ref: ServerRef) -> DriverServer:
        """See Driver."""
        found = self._find(ref)
        if found.problem is not None:
            return _bad(found, found.problem)
        if found.spec is not None:
            return self._look(found, found.spec)
        if processes.members(found.marks):
            problem = "its processes run, but its folder is gone: destroy it"
            return DriverServer(ref, PowerState.ERROR, problem=problem)
        return DriverServer(ref, PowerState.ABSENT)

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        """See Driver. A folder that cannot be read has no id: its is empty."""
        parent = self._node_directory(ServerRef(lab, "x", "")).parent
        try:
            names = sorted(entry.name for entry in parent.iterdir() if is_name(entry.name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DriverFailed(f"cannot list {parent}: {error}") from error
        seen = (self._named(ServerRef(lab, name, "")) for name in names)
        return tuple(server for server in seen if server is not None)

    def pause(self, ref: ServerRef) -> None:
        """See Pausing."""
        found, _ = self._existing(ref)
        if processes.supervisor(found.marks) is None:
            raise Conflict(f"{ref.name} is off", "start it first")
        processes.freeze(found.marks, self._clock)

    def resume(self, ref: ServerRef) -> None:
        """See Pausing."""
        found, _ = self._existing(ref)
        running = processes.supervisor(found.marks)
        if running is None:
            raise Conflict(f"{ref.name} is off", "start it")
        if processes.is_frozen(running):
            processes.thaw(found.marks)

    def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
        """See ConsoleLog. None: a part of `lines` for each service, behind its name."""
        found, spec = self._existing(ref)
        known = (SUPERVISOR_LOG, *(service.name for service in spec.services))
        if source is not None:
            if source not in known:
                raise NotFound(f"{ref.name} has no log {source!r}", f"known: {', '.join(known)}")
            return tail(found.folder.log(source), lines)
        share = max(1, lines // len(known))
        return tuple(
            f"{name} | {line}" for name in known for line in tail(found.folder.log(name), share)
        )

    def _find(self, ref: ServerRef) -> Found:
        folder = Folder(self._node_directory(ref), ref)
        spec, problem, session = None, None, None
        try:
            spec = folder.stored()
        except (Broken, Unreadable) as error:
            problem = error
        if spec is not None and spec.ref != ref:
            return Found(folder, Marks(ref.id, folder.path.resolve(), None), None, is_anothers=True)
        try:
            session = folder.supervisor_pid()
        except Unreadable as error:
            problem = error
        return Found(folder, Marks(ref.id, folder.path.resolve(), session), spec, problem)

    def _existing(self, ref: ServerRef) -> tuple[Found, ServerSpec]:
        found = self._find(ref)
        if found.problem is not None:
            raise found.problem
        if found.spec is None:
            raise NotFound(f"server {ref.lab}/{ref.name} does not exist")
        return found, found.spec

    def _named(self, place: ServerRef) -> DriverServer | None:
        """The server in the folder that `place` leads to, whatever its id is."""
        try:
            spec = Folder(self._node_directory(place), place).stored()
        except (Broken, Unreadable):
            return self.get(place)
        if spec is None or (spec.ref.lab, spec.ref.name) != (place.lab, place.name):
            return None  # gone meanwhile, or a copy of another server's folder
        return self.get(spec.ref)

    def _look(self, found: Found, spec: ServerSpec) -> DriverServer:
        running = processes.supervisor(found.marks)
        problem = None
        if running is None:
            state = PowerState.STOPPED
            if found.marks.session is not None:
                problem = "its supervisor ended by itself"
        else:
            state = PowerState.PAUSED if processes.is_frozen(running) else PowerState.RUNNING
        addresses = {
            f.service: f"127.0.0.1:{f.host_port}" for f in spec.forwards if f.service != "ssh"
        }
        return DriverServer(
            spec.ref,
            state,
            endpoints={"host": addresses, "node": addresses},
            problem=problem,
            directory=found.folder.path,
        )

    def _run_files(self, folder: Folder, spec: ServerSpec) -> tuple[NodeConfig, Plan]:
        return run_files(
            spec, folder.path, capabilities=CAPABILITIES, search_path=self._search_path
        )

    def _spawn_supervisor(self, folder: Folder) -> None:
        log = folder.log(SUPERVISOR_LOG)
        pid = commands.spawn_detached(
            (sys.executable, "-I", "-m", SUPERVISOR_MODULE, str(folder.path)),
            log=log,
            env={MARK: folder.ref.id},
            cwd=folder.path,
        )

        def runs() -> None:
            if folder.supervisor_pid() == pid:
                return
            if not psutil.pid_exists(pid):
                raise DriverFailed(
                    f"the supervisor of {folder.ref.name} ended at once", "", tail(log, 10)
                )
            raise NotYet(f"pid {pid} has not reported")

        wait_until(
            runs,
            name=f"supervisor of {folder.ref.name} runs",
            limit_s=START_LIMIT_S,
            clock=self._clock,
            hint=f"look into {log}",
            interval_s=0.01,
        )

    def _ask_to_end(self, marks: Marks, spec: ServerSpec) -> None:
        """Tell its supervisor to stop everything, and wait while it may: afterwards `kill` does."""
        running = processes.supervisor(marks)
        if running is None:
            return
        if processes.is_frozen(running):
            processes.thaw(marks)
        with contextlib.suppress(psutil.Error):
            running.terminate()

        def ended() -> None:
            if processes.supervisor(marks) is not None:
                raise NotYet(f"pid {running.pid} lives")

        grace_s = sum(service.stop_grace_s for service in spec.services)
        with contextlib.suppress(TimedOut):
            wait_until(
                ended,
                name=f"services of {spec.ref.name} end",
                limit_s=grace_s + STOP_MARGIN_S,
                clock=self._clock,
                interval_s=0.01,
            )


def _bad(found: Found, problem: Broken | Unreadable) -> DriverServer:
    state = PowerState.ERROR if isinstance(problem, Broken) else PowerState.UNKNOWN
    return DriverServer(
        found.folder.ref, state, problem=problem.message, directory=found.folder.path
    )
