"""`python -m benchmarks.harness.fleet FIRST COUNT PORT`: agents that do nothing but answer.

Each has a loopback address of its own (Linux has 16 million) and a listener, as real ones have.
"""

from __future__ import annotations

import asyncio
import functools
import resource
import sys
from typing import cast

BODY = (
    '{"cpu": 45.2, "memory": {"total": 8589934592, "available": 4294967296, "percent": 50.0}, '
    '"status": "active", "node": "%s", "seq": %d, "uptime_s": 93.1, "in_flight": 3, '
    '"gauges": {"sessions": 2.0}}'
)
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def name_of(index: int) -> str:
    """The node's name."""
    return f"agent-{index}"


def address_of(index: int, port: int) -> str:
    """Where it listens."""
    return f"127.{16 + (index >> 16)}.{index >> 8 & 255}.{index & 255}:{port}"


def allow_many_files() -> int:
    """Raise this process's limit of open files as far as it may; the limit then."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Agent(asyncio.Protocol):
    """One connection to one agent; every request is answered by its next sample."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._seq = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._seq += 1
        body = BODY % (self._node, self._seq)
        if self._transport is not None and data.endswith(b"\r\n\r\n"):
            self._transport.write((HEAD % len(body) + body).encode())


async def serve(first: int, count: int, port: int) -> None:
    """Serve until killed. The first agent begins last: when it answers, all do."""
    loop = asyncio.get_running_loop()
    for index in reversed(range(first, first + count)):
        host = address_of(index, port).rpartition(":")[0]
        await loop.create_server(functools.partial(Agent, name_of(index)), host, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    allow_many_files()
    asyncio.run(serve(*(int(word) for word in sys.argv[1:])))
