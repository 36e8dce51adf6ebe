"""Closed-loop load over kept connections, with a ledger: each request is answered 200 or lost.

Nothing is retried. A connection that the server closes *before* a request is written to it costs
nothing; one that ends, or answers anything but 200, after that is a loss.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

LAST_ANSWER_S = 10.0
REQUEST = b"POST /echo HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Ledger:
    """What became of all requests."""

    sent: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """Of the answered requests."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


class Client(asyncio.Protocol):
    """One connection at a time; made anew by `Load` when it ends."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.waiting_since: float | None = None
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type
        self.transport = transport
        self.load.connected.add(self)
        self.send()

    def send(self) -> None:
        """Write a request, unless the load is over or the connection has ended."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.load.over:
            self.transport.close()
            return
        self.load.ledger.sent += 1
        self.waiting_since = time.perf_counter()
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and go on after a pause."""
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        _, _, rest = head.partition(b"content-length:")
        if len(self.buffer) < end + 4 + int(rest.split(b"\r\n", 1)[0]):
            return
        self.buffer = b""
        self._answered(head)

    def _answered(self, head: bytes) -> None:
        assert self.waiting_since is not None and self.transport is not None  # noqa: S101, PT018
        if head.startswith(b"http/1.1 200 "):
            self.load.ledger.latencies_s.append(time.perf_counter() - self.waiting_since)
        else:
            self.load.ledger.lost[head[9:12].decode()] += 1
        self.waiting_since = None
        if b"\r\nconnection: close" in head:
            self.transport.close()
            return
        self.load.later(self.send)

    def connection_lost(self, error: Exception | None) -> None:
        """Enter the loss, if it is one, and connect again."""
        if self.waiting_since is not None:
            self.load.ledger.lost[type(error).__name__ if error else "closed"] += 1
        self.transport = None
        self.load.connected.discard(self)
        self.load.later(self.load.connect)


class Load:
    """`clients` connections to one address; a pause of 0..`gap_s` before each request."""

    def __init__(self, address: str, clients: int, gap_s: float = 0.0) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self._clients = clients
        self._gap_s = gap_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected: set[Client] = set()
        self._random = random.Random(1)  # noqa: S311 - pauses, not secrets
        self.ledger = Ledger()
        self.over = False

    def later(self, call: object) -> None:
        """Call after a pause."""
        assert callable(call)  # noqa: S101 - narrows the type
        loop = asyncio.get_running_loop()
        if self._gap_s:
            loop.call_later(self._random.uniform(0, self._gap_s), call)
        else:
            call()

    def connect(self) -> None:
        """Open one more connection."""
        if not self.over:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Client(self), *self._where)
        except OSError as error:
            self.ledger.sent += 1
            self.ledger.lost[f"connect: {type(error).__name__}"] += 1
            await asyncio.sleep(0.01)
            self.connect()

    async def run(self, until: asyncio.Future[None] | float) -> Ledger:
        """Load for so many seconds, or until something is done; the ledger when all is answered."""
        began = time.perf_counter()
        for _ in range(self._clients):
            self.connect()
        if isinstance(until, float):
            await asyncio.sleep(until)
        else:
            await until
        self.ledger.seconds = time.perf_counter() - began
        self.over = True
        deadline = time.perf_counter() + LAST_ANSWER_S
        while (self.connected or self._tasks) and time.perf_counter() < deadline:
            await asyncio.sleep(0.005)
        self.ledger.lost["no answer"] = self._open()
        return self.ledger

    def _open(self) -> int:
        """Requests that are neither answered nor lost."""
        return self.ledger.sent - len(self.ledger.latencies_s) - self.ledger.lost.total()
