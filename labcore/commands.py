"""The only module that starts programs: argument vectors, time limits, whole process groups."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from labcore.errors import DriverFailed, DriverUnusable, TimedOut

KILL = getattr(signal, "SIGKILL", 9)  # Windows has no such name


@dataclass(frozen=True)
class Result:
    """What a finished program left: exit code, and both streams as text."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self, what: str, hint: str = "") -> Result:
        """Give itself back if the exit code is 0, else raise DriverFailed with the last lines."""
        if self.returncode == 0:
            return self
        lines = (self.stderr or self.stdout).splitlines()[-10:]
        raise DriverFailed(
            f"{what}: `{self.argv[0]}` ended with {self.returncode}", hint, tuple(lines)
        )


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | bytes | None = None,
) -> Result:
    """Run a program to its end, never through a shell, and return what it printed.

    `env` is added to ours. After `timeout_s` its whole process group is killed and TimedOut is
    raised; DriverUnusable if it cannot be run: not there, not allowed, made for another machine.
    """
    command = tuple(argv)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise DriverUnusable(f"cannot run {command[0]!r}: {error.strerror}") from error
    given = stdin.encode() if isinstance(stdin, str) else stdin
    with process:
        try:
            stdout, stderr = process.communicate(given, timeout=timeout_s)
        except BaseException as error:
            kill_group(process.pid)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimedOut(
                    f"`{' '.join(command)}` did not end within {timeout_s:g} s"
                ) from None
            raise
    return Result(command, process.returncode, _text(stdout), _text(stderr))


def _text(output: bytes) -> str:
    """What was printed, with the line ends of Python."""
    text = output.decode(errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def stream(
    argv: Sequence[str],
    tell: Callable[[str], None],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run a program to its end and tell each line that it prints, on either stream, at once.

    As `run` otherwise: `stderr` of the result is empty. Whatever `tell` raises ends the program's
    process group too.
    """
    command = tuple(argv)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise DriverUnusable(f"cannot run {command[0]!r}: {error.strerror}") from error
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        kill_group(process.pid)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    lines: list[str] = []
    with process:
        timer.start()
        try:
            for raw in process.stdout or ():
                lines.append(_text(raw).rstrip("\n"))
                tell(lines[-1])
            process.wait()
        except BaseException:
            kill_group(process.pid)
            raise
        finally:
            timer.cancel()
    if is_late.is_set():
        raise TimedOut(f"`{' '.join(command)}` did not end within {timeout_s:g} s")
    return Result(command, process.returncode, "\n".join(lines), "")


def run_attached(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> int:
    """Run a program on our own terminal (stdin, stdout, stderr inherited); its exit code.

    128 + the signal if one ended it, as shells tell it.
    """
    try:
        completed = subprocess.run(
            tuple(argv), env={**os.environ, **(env or {})}, cwd=cwd, check=False
        )
    except OSError as error:
        raise DriverUnusable(f"cannot run {argv[0]!r}: {error.strerror}") from error
    code = completed.returncode
    return code if code >= 0 else 128 - code


def spawn(
    argv: Sequence[str], *, output: IO[bytes], env: Mapping[str, str], cwd: Path | None = None
) -> int:
    """Start a child in a process group of its own and return its pid; the caller reaps it.

    `env` is its whole environment; both of its streams go to `output`. For supervisors.
    """
    try:
        process = subprocess.Popen(
            tuple(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd=cwd,
            process_group=0,
        )
    except OSError as error:
        raise DriverUnusable(f"cannot run {argv[0]!r}: {error.strerror}") from error
    # The caller waits with os.waitpid; telling Popen so keeps it from warning about a live child.
    process.returncode = 0
    return process.pid


def spawn_detached(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> int:
    """Start a program that outlives us, in its own session, appending to `log`; its pid.

    `env` is added to ours. A thread reaps it while we live, so that it never stays a zombie.
    """
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                tuple(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise DriverUnusable(f"cannot run {argv[0]!r}: {error.strerror}") from error
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process.pid


async def accompany(argv: Sequence[str]) -> str:
    """Run a program that has a pipe from us as its standard input, so that one that ends with its
    input does not outlive us. Waits until it ends: what it said on its standard error. Cancelled,
    it ends the program first. Raises DriverUnusable.
    """
    import asyncio  # here, as few need it

    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=nowhere, stderr=pipe
        )
    except OSError as error:
        raise DriverUnusable(f"cannot run {argv[0]!r}: {error.strerror}") from error
    try:
        errors = cast("asyncio.StreamReader", process.stderr)
        return (await errors.read()).decode(errors="replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.shield(process.wait())


class Companion:
    """A program that says one line for each line that it is told, and ends with its input, so that
    it does not outlive us. One conversation at a time; raises DriverUnusable if it cannot run."""

    def __init__(self, argv: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                tuple(argv), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise DriverUnusable(f"cannot run {argv[0]!r}: {error.strerror}") from error
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def _listen(self) -> None:
        with cast("IO[bytes]", self._process.stdout) as output:
            for line in output:
                self._said.put(line)
        self._said.put(b"")
        self._process.wait()

    def ask(self, line: str, *, limit_s: float) -> str:
        """What it says to this. Raises TimedOut after `limit_s`, DriverFailed if it has ended; it
        is of no use after either."""
        program = self._process.args[0]  # type: ignore[index]
        try:
            told = cast("IO[bytes]", self._process.stdin)
            told.write(f"{line}\n".encode())
            told.flush()
            said = self._said.get(timeout=limit_s)
        except queue.Empty:
            self.end()
            raise TimedOut(f"{program!r} said nothing within {limit_s:g} s") from None
        except OSError:
            said = b""
        if not said:
            self.end()
            raise DriverFailed(f"{program!r} ended")
        return said.decode(errors="replace").rstrip("\n")

    def end(self) -> None:
        """End it; it has ended: nothing."""
        self._process.kill()
        with contextlib.suppress(OSError):
            cast("IO[bytes]", self._process.stdin).close()


def kill_group(pid: int, signal_number: int = KILL) -> None:
    """Signal the process group led by `pid`; nothing happens if it is gone."""
    if not hasattr(os, "killpg"):
        kill_tree(pid)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)


def kill_tree(pid: int) -> None:
    """End a process with all that descend from it; it is gone: nothing. For Windows, which knows
    neither groups nor signals."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                one.kill()
