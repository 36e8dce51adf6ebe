"""One command on a connection: its streams, its end, its interruption."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from labcore.clock import Clock
from labcore.errors import LabError, TimedOut, Unreachable
from labctl.ssh.endpoint import Endpoint

STDOUT, STDERR = 1, 2
Take = Callable[[int, bytes], None]  # which stream, what came
Feed = Callable[[BinaryIO], None]  # writes stdin; it is closed behind it
CHUNK = 1 << 16
LOOK_S = 0.5
LEFT_OPEN_S = 2.0
NO_CODE = 255  # what ssh ends with when a signal ended the command


class Exchange:
    """A command that was begun; `carry` it on to its end once."""

    def __init__(
        self, endpoint: Endpoint, channel: paramiko.Channel, line: str, clock: Clock
    ) -> None:
        self._endpoint = endpoint
        self._channel = channel
        self._line = line
        self._clock = clock
        self._problem: BaseException | None = None  # of whoever feeds it

    def carry(self, take: Take, *, limit_s: float | None = None, feed: Feed | None = None) -> int:
        """Move its streams until it ends; its exit code. See Connection for what is raised."""
        # Before anything comes: what comes later wakes whoever waits for this.
        descriptor = self._channel.fileno()
        self._feed(feed)
        try:
            self._pump(descriptor, take, limit_s)
        except BaseException as error:
            self.interrupt("INT" if isinstance(error, KeyboardInterrupt) else "KILL")
            raise
        finally:
            self._channel.close()
        return self._code()

    def stdout(self) -> BinaryIO:
        """What it writes, as a file; to be read before it is carried on. Raises TimeoutError when
        nothing comes for `idle_s`."""
        return cast("BinaryIO", self._channel.makefile("rb"))

    def abandon(self) -> None:
        """Give it up. Raises Unreachable if the connection is what failed."""
        self.interrupt("KILL")
        self._channel.close()
        if not self._channel.get_transport().is_active():
            raise broken(self._endpoint)

    def interrupt(self, name: str) -> None:
        """Send it a signal (`INT`, `KILL`); nothing happens if it is gone."""
        # paramiko has no call for this request of RFC 4254, 6.9.
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self._channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string(name)
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            transport = self._channel.get_transport()
            transport._send_user_message(message)  # type: ignore[attr-defined]

    def _pump(self, descriptor: int, take: Take, limit_s: float | None) -> None:
        began = self._clock.monotonic()
        ended: float | None = None
        while True:
            moved = self._take_ready(take)
            now = self._clock.monotonic()
            if self._problem is not None:
                raise self._problem
            if self._channel.exit_status_ready() and not moved:
                if ended is None:
                    ended = now
                # What it left in the background may hold its streams open for ever.
                if self._is_over() or now - ended >= LEFT_OPEN_S:
                    return
            if limit_s is not None and now - began >= limit_s:
                raise TimedOut(
                    f"{self._endpoint.name}: `{self._line}` did not end within {limit_s:g} s"
                )
            if not moved:
                left_s = LOOK_S if limit_s is None else min(LOOK_S, began + limit_s - now)
                select.select([descriptor], [], [], LOOK_S / 10 if ended else left_s)

    def _take_ready(self, take: Take) -> bool:
        moved = False
        if self._channel.recv_ready():
            take(STDOUT, self._channel.recv(CHUNK))
            moved = True
        if self._channel.recv_stderr_ready():
            take(STDERR, self._channel.recv_stderr(CHUNK))
            moved = True
        return moved

    def _is_over(self) -> bool:
        ended = self._channel.eof_received or self._channel.closed
        return bool(ended) and not (self._channel.recv_ready() or self._channel.recv_stderr_ready())

    def _feed(self, feed: Feed | None) -> None:
        """Let `feed` write stdin in the background: the command may talk before it listens."""

        def work() -> None:
            # OSError: the command has ended, or closed its stdin; its exit code says the rest.
            with contextlib.suppress(OSError, EOFError):
                try:
                    if feed is not None:
                        # types-paramiko: a BufferedFile is not a BinaryIO, but has its methods.
                        feed(cast("BinaryIO", self._channel.makefile_stdin("wb", 0)))
                except LabError as error:
                    self._problem = error
                except TimeoutError:
                    # Not to be taken for the end of the input.
                    self._problem = TimedOut(
                        f"{self._endpoint.name}: `{self._line}` took nothing more of its input"
                    )
                self._channel.shutdown_write()

        threading.Thread(target=work, name=f"stdin-{self._endpoint.name}", daemon=True).start()

    def _code(self) -> int:
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        if code >= 0:
            return code
        if not self._channel.get_transport().is_active():
            raise broken(self._endpoint)
        return NO_CODE


def broken(endpoint: Endpoint, error: BaseException | None = None) -> Unreachable:
    """A connection that ended in the middle."""
    why = f": {error}" if error is not None and str(error) else ""
    return Unreachable(
        f"{endpoint.name}: the SSH connection to {endpoint.address} broke off{why}",
        "labctl status shows whether it still runs",
    )
