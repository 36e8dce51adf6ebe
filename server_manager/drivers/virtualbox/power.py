"""Turns machines on and off, and finds out whether VirtualBox did what it says it did."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from labcore.clock import Clock
from labcore.errors import Conflict, DriverFailed, LabError, TimedOut
from labcore.files import tail
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import Machine
from server_manager.drivers.virtualbox.states import meaning
from server_manager.drivers.virtualbox.vboxmanage import NotRunning, SessionLocked
from server_manager.ports import holder

CUT_LIMIT_S = 30.0  # from `poweroff` to a machine that is off; it takes 0.1-0.4 s
AGAIN_S = 3.0  # a `poweroff` that was refused, or not heard, is said once more after that
LOG_LINES = 8
_NOT_FORWARDED = re.compile(r"failed to set up redirection of (\d+) to")
_ON = (PowerState.RUNNING, PowerState.STARTING, PowerState.PAUSED)


class Power:
    """Each call looks at the state afterwards: exit codes are not believed."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._vbox = library.vbox
        self._clock = clock

    def boot(self, machine: Machine, folder: Folder) -> None:
        """Start a machine that is off or saved. Raises DriverFailed if it dies at once, Conflict
        if a forward of it does not listen: it is off again then."""
        try:
            self._vbox.change("startvm", machine.uuid, "--type", "headless")
        except (SessionLocked, TimedOut, DriverFailed) as error:
            if self._state(machine) not in _ON:
                lines = error.details + self.last_lines(machine, folder)
                raise DriverFailed(
                    f"{machine.name} did not start: {error.message}", error.hint, lines
                ) from error
        if (state := self._state(machine)) not in _ON:
            raise DriverFailed(
                f"{machine.name} is {state}, though VBoxManage says that it started",
                "the end of its log may say why",
                self.last_lines(machine, folder),
            )
        self._check_forwards(machine)

    def _check_forwards(self, machine: Machine) -> None:
        """VirtualBox starts a machine whose ports are taken, and tells only its log."""
        lines = tail(vbox_log(machine), 4000, most_bytes=1024 * 1024)
        ports = {int(m.group(1)) for m in map(_NOT_FORWARDED.search, lines) if m}
        if not ports:
            return
        taken = tuple(f"port {port} is held by {holder(port)}" for port in sorted(ports))
        with contextlib.suppress(LabError):
            self.cut(machine)
        raise Conflict(
            f"{machine.name} was turned off again: {', '.join(taken)}",
            "end that program, or try again: labctl moves to another port",
            taken,
        )

    def resume(self, machine: Machine) -> None:
        """Let a paused machine go on; it runs already: nothing."""
        self._unless(PowerState.RUNNING, machine, "resume")

    def pause(self, machine: Machine) -> None:
        """Freeze a running machine; it is paused already: nothing. Raises Conflict if it is off."""
        self._unless(PowerState.PAUSED, machine, "pause")

    def ask(self, machine: Machine, grace_s: float) -> None:
        """Press the power button and wait until the guest is off, or for `grace_s`."""
        with contextlib.suppress(LabError):
            if meaning(machine.state).start == "resume":
                self.resume(machine)
            self._vbox.change("controlvm", machine.uuid, "acpipowerbutton")
            self._wait_off(machine, grace_s)

    def cut(self, machine: Machine) -> None:
        """Take its power away; it is off already: nothing. Raises TimedOut if it stays on."""
        self._say_off(machine)
        with contextlib.suppress(TimedOut):
            return self._wait_off(machine, AGAIN_S)
        self._say_off(machine)
        return self._wait_off(machine, CUT_LIMIT_S - AGAIN_S)

    def _say_off(self, machine: Machine) -> None:
        try:
            self._vbox.change("controlvm", machine.uuid, "poweroff")
        except (NotRunning, SessionLocked, TimedOut, DriverFailed) as error:
            if self._state(machine) is PowerState.UNKNOWN:
                raise error

    def discard(self, machine: Machine) -> None:
        """Forget the saved memory of a machine, which is off then."""
        self._vbox.change("discardstate", machine.uuid)

    def last_lines(self, machine: Machine, folder: Folder) -> tuple[str, ...]:
        """The end of what VirtualBox and the guest wrote."""
        log, serial = tail(vbox_log(machine), LOG_LINES), tail(folder.serial, LOG_LINES)
        return (*(f"VBox.log | {line}" for line in log), *(f"serial | {line}" for line in serial))

    def _unless(self, state: PowerState, machine: Machine, action: str) -> None:
        try:
            self._vbox.change("controlvm", machine.uuid, action)
        except (DriverFailed, TimedOut, NotRunning) as error:
            now = self._state(machine)
            if now is state:
                return
            if now not in _ON:
                raise Conflict(f"{machine.name} is {now}", "start it first") from error
            raise

    def _wait_off(self, machine: Machine, limit_s: float) -> None:
        def off() -> None:
            state = self._state(machine)
            if state in (*_ON, PowerState.STOPPING, PowerState.ERROR, PowerState.UNKNOWN):
                raise NotYet(f"it is {state}")

        wait_until(
            off,
            name=f"{machine.name} to power off",
            limit_s=limit_s,
            clock=self._clock,
            hint=f"VBoxManage controlvm {machine.name} poweroff, or end its VBoxHeadless",
        )

    def _state(self, machine: Machine) -> PowerState:
        """Its state now; UNKNOWN if VirtualBox does not say."""
        try:
            found = self._library.find(machine.uuid)
        except LabError:
            return PowerState.UNKNOWN
        return PowerState.ABSENT if found is None else meaning(found.state).power


def vbox_log(machine: Machine) -> Path:
    """VirtualBox's own log of a machine's last run."""
    return Path(machine.log_folder) / "VBox.log"
