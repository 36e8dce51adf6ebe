"""The gates that a server passes while it comes up, and what is known while one keeps it.

All of them together have the driver's time limit. Each error names the gate, what was seen last
and the last lines of the console; a server that dies ends the wait at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labcore.clock import Clock
from labcore.errors import DriverFailed, LabError, TimedOut
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState, Wanted
from server_manager.core import Core
from server_manager.drivers.base import ConsoleLog, Driver, DriverServer
from server_manager.operations import Operations, ask
from server_manager.registry import LabRecord, ServerRecord

DEAD = (PowerState.STOPPED, PowerState.ABSENT, PowerState.ERROR, PowerState.LOST)
LOG_LINES = 20  # of an error
SEARCHED_LINES = 200  # what comes behind a seed's last word until sshd greets
CONSOLE_S = 1.0  # between two looks at a console, which may cost a program's run
SEED = "labctl-seed: "
APPLIED, FAILED = "applied", "failed"


@dataclass
class Console:
    """The end of a server's console, asked for at most once a second."""

    driver: Driver
    server: ServerRecord
    clock: Clock
    _lines: tuple[str, ...] = ()
    _at: float | None = None

    def lines(self, *, now: bool = False) -> tuple[str, ...]:
        """Those of the last look; of a new one with `now`, or if that one is old."""
        at = self.clock.monotonic()
        if not self.driver.capabilities().console_log:
            return ()
        if now or self._at is None or at - self._at >= CONSOLE_S:
            self._at = at
            console: ConsoleLog = self.driver  # type: ignore[assignment]  # has the capability
            try:
                self._lines = console.console_log(self.server.ref, None, SEARCHED_LINES)
            except LabError as error:
                self._lines = (f"(its console cannot be read: {error.message})",)
        return self._lines

    def last(self) -> tuple[str, ...]:
        """What it said last, for an error."""
        return self.lines(now=True)[-LOG_LINES:]

    def said(self) -> str:
        """The last line, as evidence."""
        if not self.driver.capabilities().console_log:
            return ""
        spoken = [line.strip() for line in self.lines() if line.strip()]
        return f"; console: {spoken[-1]}" if spoken else "; its console is silent"


@dataclass(frozen=True)
class Watch:
    """A server that comes up, seen once more."""

    lab: LabRecord
    server: ServerRecord
    found: DriverServer
    console: Console = field(repr=False)


@dataclass(frozen=True)
class Gate:
    """One gate: `check` raises NotYet with what keeps the server from passing it."""

    what: str  # it waits to ...
    hint: str  # what to look at, if it never does
    check: Callable[[Watch], None]


class Readiness:
    """Waits at the gates."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core = core
        self._operations = operations
        # By name; a driver says which of them its servers pass, and in which order.
        self._gates = {
            "booted": Gate("boot", "labctl doctor", _booted),
            "configured": Gate("apply its seed", "labctl logs {node} console", self._configured),
            "ssh": Gate("answer SSH", "labctl logs {node} console", self._ssh),
            "healthy": Gate("be healthy", "labctl logs {node}", self._healthy),
        }

    def wait(
        self,
        lab: LabRecord,
        server: ServerRecord,
        check_run: Callable[[], None],
        passed: Callable[[str], None],
    ) -> None:
        """Return when a server that was told to start has passed all gates; tell each by `passed`.

        Returns at once when it is not wanted on any more. `check_run` may raise to end the wait.
        Raises DriverFailed when it dies, TimedOut when a gate keeps it too long.
        """
        driver, clock = self._core.driver(lab), self._core.clock
        console = Console(driver, server, clock)
        ends = clock.monotonic() + self._core.boot_limit_s(lab)
        for name in driver.capabilities().gates:
            gate = self._gates.get(name)
            if gate is None:
                continue  # passed before, or seen by the scaler

            def probe(gate: Gate = gate) -> None:
                check_run()
                current = self._core.servers.find(lab.name, server.name)
                if current is None or current.wanted is not Wanted.ON:
                    return  # somebody turned it off meanwhile: nothing to wait for
                found = ask(driver, server)
                if found.state in DEAD and self._operations.current(server) is None:
                    raise _died(lab, found, console)
                gate.check(Watch(lab, server, found, console))

            try:
                wait_until(
                    probe,
                    name=f"{lab.name}/{server.name} to {gate.what}",
                    limit_s=round(max(0.0, ends - clock.monotonic()), 1),
                    clock=clock,
                    hint=f"{gate.hint.format(node=server.name)} --lab {lab.name}",
                    interval_s=driver.capabilities().look_s,
                )
            except TimedOut as error:
                raise TimedOut(error.message, error.hint, console.last()) from error
            passed(name)

    def _ssh(self, watch: Watch) -> None:
        _booted(watch)
        why = self._no_banner(watch)
        if why:
            raise NotYet(why + watch.console.said())

    def _configured(self, watch: Watch) -> None:
        """An SSH banner says it too: sshd has no host key before the seed brings one."""
        _booted(watch)
        if not self._no_banner(watch):
            return
        told = [line.partition(SEED)[2] for line in watch.console.lines() if SEED in line]
        last = told[-1] if told else ""
        if last.startswith(FAILED):
            raise DriverFailed(
                f"{watch.lab.name}/{watch.server.name} could not apply its seed: {SEED}{last}",
                f"labctl logs {watch.server.name} console --lab {watch.lab.name}",
                watch.console.last(),
            )
        if not last.startswith(APPLIED):
            raise NotYet("its seed is not applied" + watch.console.said())

    def _healthy(self, watch: Watch) -> None:
        _booted(watch)
        services = self._core.services(watch.lab, watch.server)
        why = self._core.prober.unhealthy(services, watch.found.endpoints.get("host", {}))
        if why:
            raise NotYet(why)

    def _no_banner(self, watch: Watch) -> str:
        address = watch.found.endpoints.get("host", {}).get("ssh")
        return self._core.prober.mute(address) if address else "it has no SSH address yet"


def _booted(watch: Watch) -> None:
    found = watch.found
    if found.state is not PowerState.RUNNING:
        raise NotYet(f"it is {found.state}" + (f": {found.problem}" if found.problem else ""))


def _died(lab: LabRecord, found: DriverServer, console: Console) -> LabError:
    name = found.ref.name
    return DriverFailed(
        f"{lab.name}/{name} is {found.state}: {found.problem or 'it ended by itself'}",
        f"labctl logs {name} --lab {lab.name}",
        console.last(),
    )
