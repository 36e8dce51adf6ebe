"""The only thing that runs VBoxManage, and believes it as little as it deserves.

Exit code 0 with an `error:` on stderr is a failure; a call that does not end is killed with its
process group; messages are asked for in English, and yet recognised by VirtualBox's own codes.
What changes something holds one lock of this user, since parallel changes stall and collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import filelock

from labcore import commands
from labcore.clock import Clock
from labcore.commands import Result
from labcore.errors import Conflict, DriverFailed, LabError, NotFound, TimedOut
from labcore.waiting import retry_call
from server_manager.drivers.virtualbox.advice import advise

# A call takes 0.03-0.1 s, but one of some hundred stalls for exactly 10 s, when others connect at
# the same time: one that only reads is given up early, once.
FIRST_READ_LIMIT_S = 6.0
READ_LIMIT_S = 30.0
CHANGE_LIMIT_S = 60.0
LOCK_LIMIT_S = 120.0
ATTEMPTS = 6  # of a call on which somebody else's session was in the way: 3 s in all
ENGLISH = {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}
_ERROR = re.compile(r"^(?:.*\.\.\.)?VBoxManage(?:\.exe)?: error: ?(.*)$", re.MULTILINE)
_WARNING_END = "until this problem is fixed"


class Run(Protocol):
    """Runs a program to its end: `commands.run`, or a stand-in within this process."""

    def __call__(
        self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str]
    ) -> Result: ...


class NoSuchMachine(NotFound):
    """VirtualBox positively knows no such machine."""


class SessionLocked(Conflict):
    """Another session (a person in the GUI, another call) has the machine."""


class NotRunning(Conflict):
    """The machine is off, so there is nothing to control."""


class Inaccessible(DriverFailed):
    """The machine is registered, but its settings file cannot be read."""


class SettingsExist(Conflict):
    """A machine of that name exists, or left its folder behind."""


class NotReady(DriverFailed):
    """VBoxSVC, or a machine in it, was just coming or going: another call may succeed."""


class VBoxManage:
    """One VBoxManage program. Every call is bounded, and raises only LabError.

    A kind of its own (see above) where VirtualBox said just that, TimedOut for a call that was
    killed (it may have been done: look at the state again), DriverFailed with the last lines for
    all else.
    """

    def __init__(self, program: str, *, lock: Path, clock: Clock, run: Run = commands.run) -> None:
        self.program = program
        self._run_program = run
        self._lock = lock
        self._clock = clock

    def read(self, *arguments: str, timeout_s: float = READ_LIMIT_S, partial: bool = False) -> str:
        """What a call that changes nothing prints on stdout.

        `partial`: an error at exit code 0 is about one of many, and the rest is as good.
        """

        def quickly() -> str:
            try:
                return self._run(arguments, min(FIRST_READ_LIMIT_S, timeout_s), partial)
            except TimedOut:
                return self._run(arguments, timeout_s, partial)

        return self._patiently(quickly)

    def change(
        self, *arguments: str, timeout_s: float = CHANGE_LIMIT_S, exclusive: bool = True
    ) -> str:
        """The same for a call that changes something: one at a time for all of this user.

        `exclusive=False` is for minutes of work on a medium that nobody else knows yet.
        """
        if not exclusive:
            return self._patiently(lambda: self._run(arguments, timeout_s))
        return self._patiently(lambda: self._alone(arguments, timeout_s))

    def _patiently(self, call: Callable[[], str]) -> str:
        return retry_call(
            call,
            retry_on=lambda error: isinstance(error, (SessionLocked, NotReady)),
            attempts=ATTEMPTS,
            clock=self._clock,
        )

    def _alone(self, arguments: tuple[str, ...], timeout_s: float) -> str:
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # One object for each call: such a lock keeps threads of one process apart too.
            with filelock.FileLock(self._lock, timeout=LOCK_LIMIT_S, poll_interval=0.01):
                return self._run(arguments, timeout_s)
        except filelock.Timeout:
            raise TimedOut(
                f"VBoxManage {arguments[0]}: others changed VirtualBox for {LOCK_LIMIT_S:g} s",
                f"end the program that holds {self._lock}",
            ) from None

    def _run(self, arguments: tuple[str, ...], timeout_s: float, partial: bool = False) -> str:
        try:
            result = self._run_program((self.program, *arguments), timeout_s=timeout_s, env=ENGLISH)
        except TimedOut as error:
            raise TimedOut(
                f"VBoxManage {' '.join(arguments[:2])} did not end within {timeout_s:g} s",
                "it was killed; if this repeats, end VBoxSVC and try again",
                (error.message,),
            ) from error
        if result.returncode != 0 or (not partial and _ERROR.search(result.stderr)):
            raise _failure(arguments, result)
        return without_warning(result.stdout)


def without_warning(stdout: str) -> str:
    """What VBoxManage printed, without the warning that its start script puts before it."""
    if not stdout.startswith("WARNING:"):
        return stdout
    head, end, rest = stdout.partition(_WARNING_END)
    if end and len(head.splitlines()) < 12:
        return rest.partition("\n")[2]
    lines = stdout.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("WARNING:", "\t", " \t")))


def error_lines(stderr: str) -> tuple[str, ...]:
    """What it said went wrong, without banner, usage and progress; the last lines if it is else."""
    found = tuple(match.group(1).strip() for match in _ERROR.finditer(stderr))
    return found or tuple(line for line in stderr.splitlines() if line.strip())[-5:]


# By code and place first: these are never translated, the sentences may be.
_KINDS: tuple[tuple[re.Pattern[str], type[LabError]], ...] = (
    (
        re.compile(r"\(0x80bb0001\).*\n.*FindMachine|not find a registered machine", re.MULTILINE),
        NoSuchMachine,
    ),
    (
        re.compile(
            r"\(0x80bb0007\).*\n.*(?:LockMachine|LaunchVMProcess|Unregister)\("
            r"|already locked (?:by|for) a session|while it is locked"
        ),
        SessionLocked,
    ),
    (
        re.compile(r"\(0x80bb0004\).*\n.*CreateMachine|Machine settings file .* exists"),
        SettingsExist,
    ),
    (
        re.compile(r"functionality is limited|\(0x80070005\).*\n.*(?:LockMachine|ExtraData)"),
        Inaccessible,
    ),
    (re.compile(r"is not currently running"), NotRunning),
    (re.compile(r"Failed to create the VirtualBox object|The object is not ready"), NotReady),
)


def _failure(arguments: tuple[str, ...], result: Result) -> LabError:
    lines = error_lines(result.stderr)
    said = lines[0] if lines else f"it ended with {result.returncode} and said nothing"
    message = f"VBoxManage {' '.join(arguments[:2])}: {said}"
    for pattern, kind in _KINDS:
        if pattern.search(result.stderr):
            return kind(message, advise(result.stderr), lines)
    return DriverFailed(message, advise(result.stderr), lines)
