"""One server at a time: each operation is journalled, then a driver is called.

Operations on the same server follow one another, those on different servers run side by side. All
are idempotent: what the driver reports decides what is left to do, so a second call, or one after
a crash, finishes the job.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from labcore.errors import Conflict, DriverFailed, LabError, NotFound
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import EventKind
from labcore.wire.lab import Desired, PowerState, Wanted
from server_manager.core import Core
from server_manager.drivers.adopting import Adopting
from server_manager.drivers.base import Driver, DriverServer, Pausing
from server_manager.executors import Lock
from server_manager.journal import Operation
from server_manager.ports import holder
from server_manager.registry import LabRecord, ServerRecord

STOPPING_LIMIT_S = 90.0
OFF = (PowerState.STOPPED, PowerState.ABSENT)
_ON = (PowerState.STARTING, PowerState.RUNNING, PowerState.PAUSED)
Observer = Callable[[str, str, float], None]  # operation, outcome, seconds
_log = logging.getLogger(__name__)


def ask(driver: Driver, server: ServerRecord) -> DriverServer:
    """What a driver says of a server; UNKNOWN, with why, whenever it fails to say."""
    try:
        return driver.get(server.ref)
    except LabError as error:
        return DriverServer(server.ref, PowerState.UNKNOWN, problem=error.message)


class Operations:
    """The only caller of drivers that changes anything."""

    def __init__(self, core: Core, observer: Observer = lambda *_: None) -> None:
        self._core = core
        self._observer = observer
        self._guard = threading.Lock()
        self._locks: dict[str, Lock] = defaultdict(core.executor.lock)
        self._current: dict[str, str] = {}
        self._booting: set[str] = set()

    def current(self, server: ServerRecord) -> str | None:
        """What is being done to a server now."""
        return self._current.get(server.id)

    def may_boot(self, server: ServerRecord) -> bool:
        """Whether it is being turned on, so that it may run soon even if it is not wanted now."""
        return server.id in self._booting

    def ensure_on(
        self,
        lab: LabRecord,
        server: ServerRecord,
        *,
        created: Callable[[], None] = lambda: None,
    ) -> None:
        """Create it if it is absent, make it again if it is broken, start it if it is off.

        Returns when it was told to boot. `created` is called when it exists. Nothing happens if it
        is wanted off by now; a paused one that is wanted as standby stays so. Raises Conflict when
        its lab should no longer be up, DriverFailed when its state is not known.
        """
        driver = self._core.driver(lab)
        with self._only(server), self._turning_on(server):
            self._check_wished(lab)
            wanted = self._wanted(server)
            if wanted is Wanted.OFF:
                return
            state = self._settled(driver, server)
            if lab.is_adopted:
                self._check_there(lab, server, state)
            if state is PowerState.ERROR:
                self._do(server, "destroy", lambda: driver.destroy(server.ref))
                state = PowerState.ABSENT
            moved = state in OFF and self._move_ports(lab, server)
            if state is PowerState.ABSENT or moved:
                spec = self._core.server_spec(lab, server)
                self._do(server, "create", lambda: driver.create(spec))
                if self._wanted(server) is Wanted.OFF:
                    return  # that took a while
            created()
            done = (PowerState.RUNNING, PowerState.STARTING)
            if state in done or (wanted is Wanted.STANDBY and state is PowerState.PAUSED):
                return
            if state is PowerState.PAUSED and driver.capabilities().pause:
                self.resume(lab, server)
            else:
                self._do(server, "start", lambda: driver.start(server.ref))

    def _check_there(self, lab: LabRecord, server: ServerRecord, state: PowerState) -> None:
        """Raise unless an adopted machine can be started as it is: we make none, and mend none."""
        again = f"bring it back, then labctl adopt --lab {lab.name}"
        if state is PowerState.ABSENT:
            raise NotFound(f"the adopted machine of {lab.name}/{server.name} is gone", again)
        if state is PowerState.ERROR:
            raise DriverFailed(f"the adopted machine of {lab.name}/{server.name} is broken", again)
        taken = self._core.ports.taken(server.lab, server.name) if state in OFF else {}
        for service, port in taken.items():
            raise Conflict(
                f"port {port}, which leads to {service} of {server.name}, is held by"
                f" {holder(port)}",
                "free it: the forwards of an adopted machine are not ours to change",
            )

    @contextlib.contextmanager
    def _turning_on(self, server: ServerRecord) -> Iterator[None]:
        """Marked before it is asked whether it is wanted: whoever wants it off after that sees."""
        self._booting.add(server.id)
        try:
            yield
        finally:
            self._booting.discard(server.id)

    def _move_ports(self, lab: LabRecord, server: ServerRecord) -> bool:
        """Lease other ports for those that another program took while the server was off."""
        ports, driver = self._core.ports, self._core.driver(lab)
        if not ports.taken(server.lab, server.name):
            return False
        driver.stop(server.ref, force=True)  # what it left behind may be what holds them
        moved = ports.move_taken(server.lab, server.name)
        self._core.tell_moved(server.lab, moved)
        return bool(moved)

    def power_off(self, lab: LabRecord, server: ServerRecord, *, force: bool = False) -> None:
        """Turn it off and wait until it is; nothing happens if it is off or absent."""
        driver = self._core.driver(lab)
        with self._only(server):
            if ask(driver, server).state in OFF:
                return
            operation: Operation = "kill" if force else "stop"
            self._do(server, operation, lambda: driver.stop(server.ref, force=force))
            if (state := self._settled(driver, server)) in _ON:
                raise self._undone(server, operation, state)

    def adopt(self, lab: LabRecord, server: ServerRecord) -> None:
        """Let its driver mark a machine of others as this server; again: nothing."""
        driver: Adopting = self._core.driver(lab)  # type: ignore[assignment]  # its capability
        with self._only(server):
            spec = self._core.server_spec(lab, server)
            self._do(server, "adopt", lambda: driver.adopt(spec))

    def release(self, lab: LabRecord, server: ServerRecord) -> None:
        """Take our marks off an adopted machine, and leave it as it is."""
        driver: Adopting = self._core.driver(lab)  # type: ignore[assignment]  # its capability
        with self._only(server):
            self._do(server, "release", lambda: driver.release(server.ref))

    def destroy(self, lab: LabRecord, server: ServerRecord) -> None:
        """Remove it with all that it kept; an adopted machine is released instead.

        Raises DriverFailed when its state is not known.
        """
        if lab.is_adopted:
            self.release(lab, server)
            return
        driver = self._core.driver(lab)
        with self._only(server):
            self._known(driver, server)
            self._do(server, "destroy", lambda: driver.destroy(server.ref))
            # It is forgotten next: what is still there then, nobody would ever find again.
            if (state := self._known(driver, server)) is not PowerState.ABSENT:
                raise self._undone(server, "destroy", state)

    def remove(self, lab: LabRecord, server: ServerRecord) -> None:
        """Destroy it and forget it; nothing happens if it is wanted again by now.

        Raises DriverFailed when its state is not known.
        """
        with self._only(server):
            if self._is_needed(server):
                return
            self.destroy(lab, server)
            with self._core.database.transaction():
                if not self._is_needed(server):
                    self._core.servers.remove(server)

    def pause(self, lab: LabRecord, server: ServerRecord, *, only: Wanted | None = None) -> None:
        """Freeze it. Raises Conflict where the driver cannot, or the server is off, and if it is
        not wanted as `only` says by now."""
        driver = self._pausing(lab)
        with self._only(server):
            if only is not None:
                self._check_wished(lab)
                if (wanted := self._wanted(server)) is not only:
                    raise Conflict(f"{lab.name}/{server.name} is wanted {wanted}")
            self._do(server, "pause", lambda: driver.pause(server.ref))

    def resume(self, lab: LabRecord, server: ServerRecord) -> None:
        """Let it go on where it was frozen."""
        driver = self._pausing(lab)
        with self._only(server):
            self._do(server, "resume", lambda: driver.resume(server.ref))

    def _pausing(self, lab: LabRecord) -> Pausing:
        driver = self._core.driver(lab)
        if not driver.capabilities().pause:
            raise Conflict(f"driver {lab.spec.driver!r} cannot pause servers")
        return driver  # type: ignore[return-value]  # what the capability promises

    @contextlib.contextmanager
    def _only(self, server: ServerRecord) -> Iterator[None]:
        with self._guard:
            lock = self._locks[server.id]
        with lock:
            yield

    def _check_wished(self, lab: LabRecord) -> None:
        """Asked again under the server's lock: a wish to destroy may have come since."""
        if self._core.labs.get(lab.name).desired is not Desired.UP:
            raise Conflict(f"lab {lab.name!r} is not to be up", f"labctl up --lab {lab.name}")

    def _wanted(self, server: ServerRecord) -> Wanted:
        """Asked again under the server's lock, as a wish may have come while we waited for it."""
        row = self._core.servers.find(server.lab, server.name)
        return row.wanted if row is not None and row.id == server.id else Wanted.OFF

    def _is_needed(self, server: ServerRecord) -> bool:
        is_up = self._core.labs.get(server.lab).desired is Desired.UP
        return is_up and self._wanted(server) is not Wanted.OFF

    def _settled(self, driver: Driver, server: ServerRecord) -> PowerState:
        """Its state once it is not on its way down any more."""

        def probe() -> PowerState:
            state = self._known(driver, server)
            if state is PowerState.STOPPING:
                raise NotYet("it is still stopping")
            return state

        return wait_until(
            probe,
            name=f"{server.lab}/{server.name} to stop",
            limit_s=STOPPING_LIMIT_S,
            clock=self._core.clock,
            hint=f"labctl kill {server.name} --lab {server.lab}",
        )

    def _known(self, driver: Driver, server: ServerRecord) -> PowerState:
        found = ask(driver, server)
        if found.state in (PowerState.UNKNOWN, PowerState.LOST):
            why = found.problem or "no reason given"
            raise DriverFailed(
                f"{server.lab}/{server.name} is {found.state}: {why}",
                found.fix or "it was left as it is; look at labctl doctor, then try again",
            )
        return found.state

    def _undone(
        self, server: ServerRecord, operation: Operation, state: PowerState
    ) -> DriverFailed:
        return DriverFailed(
            f"{server.lab}/{server.name} is {state}, though its {operation} seemed to succeed",
            "look at labctl doctor, then try again",
        )

    def _do(self, server: ServerRecord, operation: Operation, call: Callable[[], None]) -> None:
        core = self._core
        seq = core.journal.begin(server.lab, server.name, operation)
        self._tell(server, operation, "begun")
        self._current[server.id] = operation
        began = core.clock.monotonic()
        problem: LabError | None = None
        try:
            call()
        except LabError as error:
            problem = error
        except Exception as error:
            _log.exception("driver: %s of %s/%s", operation, server.lab, server.name)
            problem = DriverFailed(f"{operation}: {type(error).__name__}: {error}", "see the log")
        finally:
            self._current.pop(server.id, None)
        outcome = "failed" if problem else "done"
        message = problem.message if problem else None
        with core.database.transaction():
            core.journal.end(seq, message)
            core.servers.set_problem(server, message)
            self._tell(server, operation, outcome, message)
        seconds = core.clock.monotonic() - began
        self._observer(operation, outcome, seconds)
        text = "%s/%s: %s %s after %.2f s%s"
        why = f": {message}" if message else ""
        _log.info(text, server.lab, server.name, operation, outcome, seconds, why)
        if problem:
            raise problem

    def _tell(
        self, server: ServerRecord, operation: str, outcome: str, problem: str | None = None
    ) -> None:
        text = f"{server.name}: {operation} {outcome}" + (f": {problem}" if problem else "")
        self._core.events.publish(
            server.lab,
            EventKind.SERVER,
            text,
            node=server.name,
            data={"operation": operation, "outcome": outcome},
        )
