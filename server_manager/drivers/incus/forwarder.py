"""`python -m server_manager.drivers.incus.forwarder FOLDER`: the documented host ports of labs.

Listens where the files of a folder say (`<lab>.json`, see `ways`) and carries each connection to
the address behind it; where there is no such address, it keeps a tunnel running that listens
itself (see `carriers`). It passes on what it meets: an end of one direction is an end of that
direction, a side that reads slowly slows the other one, and a refused or broken connection is
reset, not closed as if all had been said. Ends when no file wants it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from labcore.codec import decode
from labcore.errors import LabError
from labcore.files import read_json, write_json
from labcore.web import split_address
from server_manager.drivers.incus.carriers import Carriers, Tunnel

LOCK = "forwarder.lock"
STATE = "forwarder.state"
CONNECT_LIMIT_S = 10.0
LOOK_S = 0.02  # between looks whether a file came or went: a signal might reach somebody else
# It looks all the same: a port that somebody had may be free, and two changes of a folder within
# one tick of the kernel's clock (4 ms) are one to whoever looks at its time.
AGAIN_S = 0.5
BUFFER_BYTES = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST


@dataclass(frozen=True)
class Way:
    """From where to where. Addresses are `address:port`."""

    listen: str
    to: str
    only: tuple[str, ...] = ()  # addresses of those who may use it; empty: all who reach it


@dataclass(frozen=True)
class Wish:
    """What the file of a lab says."""

    digest: str  # over all that it says
    ways: tuple[Way, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()


class _Half(asyncio.Protocol):
    """One side of a connection that is carried."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(OSError):
                self.other.transport.write_eof()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other = self.other
        if other is None or other.transport is None:
            return
        if error is not None:
            reset(other.transport)
        elif not other.transport.is_closing():
            other.transport.close()


class _Client(_Half):
    """The side that came to us; nothing is read from it until the other side is there."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = str(transport.get_extra_info("peername")[0])
        if self._way.only and peer not in self._way.only:
            reset(transport)
            return
        cast(asyncio.Transport, transport).pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = split_address(self._way.to)
        backend = _Half()
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                await loop.create_connection(lambda: backend, host, port)
        except (OSError, TimeoutError):
            reset(self.transport)
            return
        if self.transport is None or self.transport.is_closing():
            reset(backend.transport)
            return
        self.other, backend.other = backend, self
        self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None and self.other is None:
            self._task.cancel()
        super().connection_lost(error)


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection so that its other end learns that it did not end well."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    cast(asyncio.Transport, transport).abort()


class Forwarder:
    """Keeps listening at what the files of a folder want."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[Way, asyncio.Server] = {}
        self._carriers = Carriers(self._tell)
        self._problems: dict[str, str] = {}
        self._labs: dict[str, str] = {}
        self._told: dict[str, object] = {}

    async def run(self) -> None:
        """Until nothing is wanted any more."""
        loop = asyncio.get_running_loop()
        seen, again = -1, 0.0
        while True:
            if (now := changed_at(self._folder)) != seen or loop.time() >= again:
                seen, again = now, loop.time() + AGAIN_S
                if not await self._follow():
                    await self._carriers.follow(())
                    return
            await asyncio.sleep(LOOK_S)

    async def _follow(self) -> bool:
        """Do what the files say now, and tell it; False if they say nothing."""
        wanted = read_wanted(self._folder)
        ways = set(merged(wanted))
        for way in [w for w in self._servers if w not in ways]:
            self._servers.pop(way).close()
        self._problems = {way.listen: why for way in ways if (why := await self._open(way))}
        await self._carriers.follow(t for wish in wanted.values() for t in wish.tunnels)
        self._labs = {lab: wish.digest for lab, wish in wanted.items()}
        if wanted:
            self._tell()
        return bool(wanted)

    def _tell(self) -> None:
        problems = {**self._problems, **self._carriers.problems}
        told = {"pid": os.getpid(), "labs": self._labs, "problems": problems}
        if told != self._told:  # to write is a change of the folder, which is looked at again
            with contextlib.suppress(OSError):
                write_json(self._folder / STATE, told, mode=0o600)
                self._told = told

    async def _open(self, way: Way) -> str:
        """Why it cannot listen there; "" if it does."""
        if way in self._servers:
            return ""
        host, port = split_address(way.listen)
        try:
            self._servers[way] = await asyncio.get_running_loop().create_server(
                lambda: _Client(way), host, port, backlog=1024
            )
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
        return ""


def changed_at(folder: Path) -> int:
    """When a file of the folder was last renamed into it or removed; 0 if it is gone."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def read_wanted(folder: Path) -> Mapping[str, Wish]:
    """By lab. Files that cannot be read want nothing."""
    found: dict[str, Wish] = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, LabError):
            found[path.stem] = decode(Wish, read_json(path))
    return found


def merged(wanted: Mapping[str, Wish]) -> tuple[Way, ...]:
    """The ways of all labs; those that listen at one place are one, for all who may use it."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for wish in wanted.values():
        for way in wish.ways:
            key = (way.listen, way.to)
            found[key] = tuple(sorted({*found.get(key, ()), *way.only}))
    return tuple(Way(listen, to, only) for (listen, to), only in found.items())


def main() -> int:
    """Run one for a folder, unless one runs already."""
    folder = Path(sys.argv[1])
    # As long as it is open, and so locked, there is a forwarder: whoever looks tries to lock it.
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        (folder / STATE).unlink(missing_ok=True)  # what another one did that was killed
        asyncio.run(Forwarder(folder).run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
