"""A driver in memory, whose servers boot, die and fail as they are told to: for tests, dry runs and
the simulation. All of its time is that of the clock it is given.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from labcore.clock import Clock
from labcore.errors import Conflict, DriverFailed, LabError, NotFound, TimedOut
from labcore.wire.lab import PowerState
from server_manager.drivers.base import (
    Capabilities,
    DriverHealth,
    DriverServer,
    ImageSupport,
    ServerRef,
    ServerSpec,
    may_take_over,
)
from server_manager.drivers.fake_images import FakeImages

CAPABILITIES = Capabilities(
    shares_host_network=True,
    scope="tree",
    access="local",
    gates=("created", "booted", "healthy", "serving"),
    boot_limit_s=60.0,
    pause=True,
    console_log=True,
    members=True,
    images=ImageSupport("disk", "ssh", required=False, live=True),
)
MOST_CALLS = 100_000  # remembered


class Failure(StrEnum):
    """How a call goes wrong. A `get` that goes wrong, however it does, answers UNKNOWN."""

    REFUSED = "refused"  # raises, and nothing was done
    DONE = "done"  # raises, but it was done
    SKIPPED = "skipped"  # returns, but nothing was done
    HANGING = "hanging"  # raises TimedOut after a while, and nothing was done
    DONE_LATE = "done-late"  # raises TimedOut after a while, but it was done


@dataclass(frozen=True)
class Call:
    """One call that was made: operation, server, and when on the driver's clock."""

    operation: str
    lab: str
    node: str
    at_s: float


@dataclass
class _Plan:
    operation: str
    failure: Failure
    node: str | None
    left: int
    limit_s: float


@dataclass
class _Server:
    spec: ServerSpec
    on_since: float | None = None
    paused: bool = False
    boot_s: float = 0.0
    dies_at: float | None = None
    told: PowerState | None = None  # answered instead of what it is
    problem: str | None = None


class FakeDriver(FakeImages):
    """See Driver, Pausing, ConsoleLog and ImageMaking; what it adds plans what happens.

    `boot_s` is how long a server is STARTING, unless `set_boot` says otherwise. `health` answers
    what `usable` holds. Nothing of it outlives it.
    """

    name = "fake"

    def __init__(
        self, clock: Clock, *, capabilities: Capabilities = CAPABILITIES, boot_s: float = 0.0
    ) -> None:
        super().__init__()
        self.usable = DriverHealth(True, "in memory")
        self.calls: deque[Call] = deque(maxlen=MOST_CALLS)
        self._clock = clock
        self._capabilities = capabilities
        self._boot_s = boot_s
        self._boot_of: dict[tuple[str, str], float] = {}
        self._servers: dict[tuple[str, str], _Server] = {}
        self._logs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._plans: list[_Plan] = []
        self._lock = threading.RLock()

    # ------------------------------------------------------------------ what will happen

    def fail(
        self,
        operation: str,
        failure: Failure = Failure.REFUSED,
        *,
        node: str | None = None,
        times: int = 1,
        limit_s: float = 30.0,
    ) -> None:
        """The next `times` calls of an operation (on `node`, if it is named) go wrong like this."""
        with self._lock:
            self._plans.append(_Plan(operation, failure, node, times, limit_s))

    def set_boot(self, lab: str, node: str, boot_s: float) -> None:
        """From its next start on, a server boots for so long; it need not exist yet."""
        self._boot_of[lab, node] = boot_s

    def die(self, lab: str, node: str, *, after_s: float = 0.0) -> None:
        """A running server will power itself off. Raises NotFound."""
        self._known(lab, node).dies_at = self._clock.monotonic() + after_s

    def tell(self, lab: str, node: str, state: PowerState | None) -> None:
        """Answer this state (UNKNOWN, LOST, ERROR) whatever is true; None: the truth again.

        Raises NotFound.
        """
        self._known(lab, node).told = state

    def print_line(self, lab: str, node: str, source: str, line: str) -> None:
        """Add a line to a service's log."""
        self._logs.setdefault((lab, node), []).append((source, line))

    # ------------------------------------------------------------------ Driver

    def health(self) -> DriverHealth:
        """See Driver."""
        return self.usable

    def capabilities(self) -> Capabilities:
        """See Driver."""
        return self._capabilities

    def create(self, spec: ServerSpec) -> None:
        """See Driver."""

        def do() -> None:
            server = self._servers.get(_key(spec.ref))
            if server is None:
                self._servers[_key(spec.ref)] = _Server(spec)
            elif may_take_over(server.spec, spec):
                server.spec = spec
            else:
                raise Conflict(f"{spec.ref.name} exists and was made otherwise", "destroy it first")

        self._call("create", spec.ref, do)

    def start(self, ref: ServerRef) -> None:
        """See Driver."""

        def do() -> None:
            server = self._existing(ref)
            server.paused = False
            if server.on_since is None:
                server.on_since, server.problem = self._clock.monotonic(), None
                server.boot_s = self._boot_of.get(_key(ref), self._boot_s)

        self._call("start", ref, do)

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        """See Driver."""

        def do() -> None:
            server = self._own(ref)
            if server is not None:
                server.on_since, server.dies_at, server.problem = None, None, None
                server.paused = False

        self._call("stop", ref, do)

    def destroy(self, ref: ServerRef) -> None:
        """See Driver."""

        def do() -> None:
            if self._own(ref) is not None:
                del self._servers[_key(ref)]
                self._logs.pop(_key(ref), None)

        self._call("destroy", ref, do)

    def get(self, ref: ServerRef) -> DriverServer:
        """See Driver."""
        try:
            found: list[DriverServer] = []
            self._call("get", ref, lambda: found.append(self._look(ref)))
            return found[0]
        except (LabError, IndexError) as error:
            return DriverServer(ref, PowerState.UNKNOWN, problem=str(error) or "no answer")

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        """See Driver."""
        with self._lock:
            refs = [s.spec.ref for s in self._servers.values() if s.spec.ref.lab == lab]
        return tuple(self.get(ref) for ref in sorted(refs, key=lambda ref: ref.name))

    # ------------------------------------------------------------------ Pausing, ConsoleLog

    def pause(self, ref: ServerRef) -> None:
        """See Pausing."""
        self._call("pause", ref, lambda: self._freeze(ref, True))

    def resume(self, ref: ServerRef) -> None:
        """See Pausing."""
        self._call("resume", ref, lambda: self._freeze(ref, False))

    def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
        """See ConsoleLog."""
        with self._lock:
            spec = self._existing(ref).spec
            if source is not None and source not in {service.name for service in spec.services}:
                raise NotFound(f"{ref.name} has no log {source!r}")
            log = self._logs.get(_key(ref), [])
        chosen = [
            f"{name} | {line}" if source is None else line
            for name, line in log
            if source in (None, name)
        ]
        return tuple(chosen[-lines:]) if lines > 0 else ()

    # ------------------------------------------------------------------ what others change

    def take_in(self, spec: ServerSpec, *, is_on: bool) -> None:
        """Have a server that was not made here."""
        self._servers.setdefault(_key(spec.ref), _Server(spec))
        if is_on and self._servers[_key(spec.ref)].on_since is None:
            self._servers[_key(spec.ref)].on_since = self._clock.monotonic()

    def forget(self, ref: ServerRef) -> None:
        """Have a server no more, without any call."""
        if self._own(ref) is not None:
            del self._servers[_key(ref)]

    # ------------------------------------------------------------------ inside

    def _call(self, operation: str, ref: ServerRef, do: Callable[[], None]) -> None:
        with self._lock:
            self.calls.append(Call(operation, ref.lab, ref.name, self._clock.monotonic()))
            self._let_die()
            plan = self._take_plan(operation, ref.name)
            failure = plan.failure if plan else None
            if failure in (None, Failure.DONE, Failure.DONE_LATE):
                do()
        if plan is None or failure is Failure.SKIPPED:
            return
        if failure in (Failure.HANGING, Failure.DONE_LATE):
            self._clock.sleep(plan.limit_s)  # not in the lock: others go on
            raise TimedOut(f"{operation} {ref.name}: not within {plan.limit_s:g} s", "planned")
        raise DriverFailed(f"{operation} {ref.name} failed", "planned")

    def _take_plan(self, operation: str, node: str) -> _Plan | None:
        for plan in self._plans:
            if plan.operation == operation and plan.node in (None, node) and plan.left > 0:
                plan.left -= 1
                return plan
        return None

    def _clones(self, handle: str | None) -> tuple[str, ...]:
        return tuple(
            f"{s.spec.ref.lab}/{s.spec.ref.name}"
            for s in self._servers.values()
            if handle is not None and s.spec.image == handle
        )

    def _let_die(self) -> None:
        now = self._clock.monotonic()
        for server in self._servers.values():
            if server.dies_at is not None and server.dies_at <= now and server.on_since is not None:
                server.on_since, server.dies_at, server.paused = None, None, False
                server.problem = "it powered itself off"

    def _own(self, ref: ServerRef) -> _Server | None:
        server = self._servers.get(_key(ref))
        return server if server is not None and server.spec.ref == ref else None

    def _existing(self, ref: ServerRef) -> _Server:
        server = self._own(ref)
        if server is None:
            raise NotFound(f"server {ref.lab}/{ref.name} does not exist")
        return server

    def _known(self, lab: str, node: str) -> _Server:
        if (lab, node) not in self._servers:
            raise NotFound(f"server {lab}/{node} does not exist")
        return self._servers[lab, node]

    def _freeze(self, ref: ServerRef, paused: bool) -> None:
        server = self._existing(ref)
        if server.on_since is None:
            raise Conflict(f"{ref.name} is off", "start it first")
        server.paused = paused

    def _look(self, ref: ServerRef) -> DriverServer:
        server = self._own(ref)
        if server is None:
            return DriverServer(ref, PowerState.ABSENT)
        addresses = {
            f.service: f"127.0.0.1:{f.host_port}"
            for f in server.spec.forwards
            if f.service != "ssh" or self._capabilities.access == "ssh"
        }
        return DriverServer(
            ref,
            server.told or self._state(server),
            endpoints={"host": addresses, "node": addresses},
            problem=server.problem if server.told is None else f"told to be {server.told}",
            fix="tell it to be found again" if server.told is PowerState.LOST else "",
            member="fake-1" if self._capabilities.members else None,
        )

    def _state(self, server: _Server) -> PowerState:
        if server.on_since is None:
            return PowerState.STOPPED
        if server.paused:
            return PowerState.PAUSED
        booted = self._clock.monotonic() - server.on_since >= server.boot_s
        return PowerState.RUNNING if booted else PowerState.STARTING


def _key(ref: ServerRef) -> tuple[str, str]:
    return ref.lab, ref.name
