"""Nodes that are machines of their own: SSH is the way in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from labcore.commands import run_attached
from labcore.errors import Conflict, DriverFailed, DriverUnusable, LabError, TimedOut, Unreachable
from labcore.wire.lab import Lab, Server
from labctl.reach import check_service, outside
from labctl.reach.journal import journal_command, shown
from labctl.session import Session
from labctl.ssh.connection import Connection, connect
from labctl.ssh.copy import get, put
from labctl.ssh.endpoint import Endpoint, check_is_on, of_node
from labctl.ssh.exchange import CHUNK, STDOUT
from labctl.ssh.program import find_program, write_config
from labctl.ui import plain

CONSOLE = "console"


class Guest:
    """See Reach. One connection, opened when it is first needed, for all that is asked."""

    def __init__(self, session: Session, lab: Lab, server: Server) -> None:
        self._session = session
        self._lab = lab
        self._server = server

    def execute(self, command: Sequence[str]) -> int:
        """See Reach: in the home folder of its login user."""
        variables = {
            "LABCTL_LAB": self._lab.lab,
            "LABCTL_NODE": self._server.name,
            "LABCTL_REGION": self._server.region,
        }
        return self._attach(["env", *(f"{k}={v}" for k, v in variables.items()), *command])

    def log_in(self, command: Sequence[str]) -> int:
        """See Reach: by the ssh program, or for a command without it too."""
        program = find_program()
        if program is not None:
            self._endpoint()  # raises if nobody would answer
            config = write_config(self._session.paths, self._lab)
            terminal = ["-t"] if command and _is_looked_at() else []
            return run_attached(
                [program, "-F", str(config), *terminal, self._server.name, *command]
            )
        if not command:
            raise DriverUnusable(
                "there is no ssh program on this machine",
                "install an OpenSSH client; without one,"
                f" labctl exec {self._server.name} -- COMMAND works all the same",
            )
        return self._attach(" ".join(command))

    def logs(self, service: str | None, lines: int, *, follow: bool) -> Iterator[str]:
        """See Reach: from its journal; while nobody lets us in, what it said on its console."""
        lab, node = self._lab.lab, self._server.name
        if service == CONSOLE:
            yield from outside.console(self._session, lab, node, lines, follow=follow)
            return
        check_service(self._lab, self._server, service)
        try:
            connection = self._connect()
        except (Unreachable, TimedOut, Conflict) as error:
            if service is not None:
                raise
            yield from self._console_instead(error, lines, follow=follow)
            return
        with connection:
            yield from _journal(connection, service, lines, follow=follow)

    def _console_instead(self, why: LabError, lines: int, *, follow: bool) -> Iterator[str]:
        """Raises `why` where the driver keeps no console."""
        shown = outside.console(
            self._session, self._lab.lab, self._server.name, lines, follow=follow
        )
        try:
            first = next(shown, None)
        except LabError:
            raise why from None
        plain.note(f"{why.message}; this is what its console said:")
        if first is not None:
            yield first
            yield from shown

    def put(self, source: Path, path: str) -> str:
        """See Reach."""
        with self._connect() as connection:
            return f"{self._server.name}:{put(connection, source, path)}"

    def get(self, path: str, target: Path) -> Path:
        """See Reach."""
        with self._connect() as connection:
            return get(connection, path, target)

    def _connect(self) -> Connection:
        return connect(self._endpoint(), self._session.clock)

    def _endpoint(self) -> Endpoint:
        check_is_on(self._lab, self._server)
        return of_node(self._session.paths, self._lab, self._server)

    def _attach(self, command: Sequence[str] | str) -> int:
        with self._connect() as connection:
            return connection.attach(command, _show, _feed)


def _journal(
    connection: Connection, service: str | None, lines: int, *, follow: bool
) -> Iterator[str]:
    exchange = connection.start(journal_command(service, lines, follow=follow))
    try:
        for raw in exchange.stdout():
            yield shown(raw, with_name=service is None)
    except BaseException:
        exchange.abandon()
        raise
    said = bytearray()
    code = exchange.carry(lambda _, data: said.extend(data))
    if code != 0:
        details = tuple(said.decode(errors="replace").splitlines()[-10:])
        raise DriverFailed(f"{connection.endpoint.name}: its journal cannot be read", "", details)


def _show(stream: int, data: bytes) -> None:
    target = (sys.stdout if stream == STDOUT else sys.stderr).buffer
    target.write(data)
    target.flush()


def _feed(stdin: BinaryIO) -> None:
    """Hand on what we are given. By descriptor: a thread that waits in sys.stdin when the program
    ends makes Python abort."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        return  # nobody gave us one
    while data := os.read(descriptor, CHUNK):
        stdin.write(data)


def _is_looked_at() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
