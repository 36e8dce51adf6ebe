"""Many small HTTP GETs at once, each on a connection of its own that is kept open.

An asyncio protocol of our own: a general client costs several times as much per request, and the
scaler asks every agent again and again. GET only; bounded in time and size; never raises.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

from labcore.web import split_address

CONNECT_S = 0.5
TOTAL_S = 2.0
MOST_BYTES = 64 * 1024  # head and body
MOST_CONNECTING = 64  # at a time: a listener's backlog is about 100
MOST_ASKING = 1000  # at a time: more would wait for us, not for those who are asked
_TICK_S = 0.05

Problem = Literal["refused", "timeout", "broken"]


@dataclass(frozen=True)
class Reply:
    """A whole answer, or why there is none. `body` is empty where its length is not given."""

    status: int = 0
    body: bytes = b""
    problem: Problem | None = None
    reason: str = ""


Callback = Callable[[Reply], None]


@dataclass
class _Ask:
    request: bytes
    done: Callback
    deadline: float = math.inf  # counts from when it is sent, or a connection for it begun
    is_retry: bool = False
    has_begun: bool = False


class _Connection(asyncio.Protocol):
    """One endpoint: at most one request at a time."""

    __slots__ = ("_buffer", "_owner", "address", "ask", "is_opening", "transport")

    def __init__(self, owner: Fetcher, address: str) -> None:
        self._owner = owner
        self._buffer = bytearray()
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.ask: _Ask | None = None
        self.is_opening = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's

    def send(self) -> None:
        """Send what is asked; the connection is open."""
        self._buffer.clear()
        if self.transport is not None and self.ask is not None:
            self.transport.write(self.ask.request)

    def data_received(self, data: bytes) -> None:
        if self.ask is None or not self.ask.has_begun:
            self.close()  # nobody asked
            return
        self._buffer += data
        if len(self._buffer) > MOST_BYTES:
            self.finish(Reply(problem="broken", reason=f"more than {MOST_BYTES} bytes"), keep=False)
            return
        parsed = _parse(self._buffer)
        if parsed is not None:
            reply, keep = parsed
            self.finish(reply, keep=keep)

    def connection_lost(self, error: Exception | None) -> None:
        was_used = bool(self._buffer)
        self.transport = None
        if self.ask is None or not self.ask.has_begun:
            return
        if was_used or self.ask.is_retry:
            self.finish(Reply(problem="broken", reason="closed before its answer"), keep=False)
            return
        # It may have closed an idle connection just as we used it: once more on a new one.
        self.ask.is_retry = True
        self._owner.reopen(self)

    def finish(self, reply: Reply, *, keep: bool) -> None:
        """Answer the ask, if there is one."""
        ask, self.ask = self.ask, None
        if not keep:
            self.close()
        if ask is not None:
            self._owner.finished(ask, reply)

    def close(self) -> None:
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()


class Asker(Protocol):
    """What the collector needs of a Fetcher; a simulation has another one."""

    open_asks: int  # without an answer yet

    def is_asking(self, key: Hashable) -> bool:
        """See Fetcher."""
        ...

    def get(self, key: Hashable, address: str, path: str, done: Callback) -> None:
        """See Fetcher."""
        ...

    def forget(self, key: Hashable) -> None:
        """See Fetcher."""
        ...

    def close(self) -> None:
        """See Fetcher."""
        ...


class Fetcher:
    """Keeps a connection per key and asks on it. For one event loop; make it inside that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Hashable, _Connection] = {}
        self._asking = 0
        self._asked: deque[_Connection] = deque()  # whose ask has not begun
        self._waiting: deque[_Connection] = deque()  # for a turn to connect
        self._open_tasks: set[asyncio.Task[None]] = set()
        # Time limits are equal, so deadlines come in the order in which they are set.
        self._deadlines: deque[tuple[_Ask, _Connection]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.open_asks = 0

    def is_asking(self, key: Hashable) -> bool:
        """Whether the last ask of this key has no answer yet."""
        connection = self._connections.get(key)
        return connection is not None and connection.ask is not None

    def get(self, key: Hashable, address: str, path: str, done: Callback) -> None:
        """Ask `path` at `address`; `done` is called once, later, from the loop.

        Not while `is_asking(key)`. Another address under a key closes the earlier connection.
        """
        connection = self._connections.get(key)
        if connection is None or connection.address != address:
            self.forget(key)
            connection = self._connections[key] = _Connection(self, address)
        head = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\r\n"
        connection.ask = _Ask(head.encode(), done)
        self.open_asks += 1
        self._asked.append(connection)
        self._ask_more()

    def _ask_more(self) -> None:
        while self._asked and self._asking < MOST_ASKING:
            connection = self._asked.popleft()
            if connection.ask is None or connection.ask.has_begun:
                continue  # forgotten meanwhile
            connection.ask.has_begun = True
            self._asking += 1
            if connection.transport is not None and not connection.transport.is_closing():
                self._limit(connection)
                connection.send()
            else:
                self.reopen(connection)

    def _limit(self, connection: _Connection) -> None:
        """Set the time limit of an ask that has none yet."""
        ask = connection.ask
        if ask is None or ask.deadline < math.inf:
            return
        ask.deadline = self._loop.time() + TOTAL_S
        self._deadlines.append((ask, connection))
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK_S, self._expire)

    def reopen(self, connection: _Connection) -> None:
        """Connect, as soon as there are fewer than MOST_CONNECTING others doing so."""
        if not connection.is_opening:
            connection.is_opening = True
            self._waiting.append(connection)
            self._open_more()

    def forget(self, key: Hashable) -> None:
        """Close the connection of a key, if there is one; an ask under way ends as broken."""
        connection = self._connections.pop(key, None)
        if connection is not None:
            connection.finish(Reply(problem="broken", reason="not asked any more"), keep=False)

    def close(self) -> None:
        """Close all; nothing may be asked after it."""
        self._asked.clear()
        for key in list(self._connections):
            self.forget(key)
        for task in self._open_tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def finished(self, ask: _Ask, reply: Reply) -> None:
        """Of a connection: the ask has its answer."""
        self.open_asks -= 1
        self._asking -= ask.has_begun
        ask.done(reply)
        self._ask_more()

    def _open_more(self) -> None:
        while self._waiting and len(self._open_tasks) < MOST_CONNECTING:
            connection = self._waiting.popleft()
            self._limit(connection)
            task = self._loop.create_task(self._open(connection))
            self._open_tasks.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._open_tasks.discard(task)
        self._open_more()

    async def _open(self, connection: _Connection) -> None:
        try:
            host, port = split_address(connection.address)
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: connection, host, port)
        except TimeoutError:
            reply = Reply(problem="timeout", reason=f"no connection within {CONNECT_S:g} s")
        except ConnectionRefusedError:
            reply = Reply(problem="refused", reason="nothing listens: connection refused")
        except Exception as error:  # one agent, whatever it does, must not stop us
            reply = Reply(problem="broken", reason=str(error) or type(error).__name__)
        else:
            connection.is_opening = False
            if connection.ask is not None:
                connection.send()
            return
        connection.is_opening = False
        connection.finish(reply, keep=False)

    def _expire(self) -> None:
        now = self._loop.time()
        late = Reply(problem="timeout", reason=f"no answer within {TOTAL_S:g} s")
        while self._deadlines:
            ask, connection = self._deadlines[0]
            if connection.ask is ask and ask.deadline > now:
                break
            self._deadlines.popleft()
            if connection.ask is ask:
                connection.finish(late, keep=False)
        again = bool(self._deadlines)
        self._timer = self._loop.call_later(_TICK_S, self._expire) if again else None


def _parse(buffer: bytearray) -> tuple[Reply, bool] | None:
    """The reply in a buffer and whether the connection may be used again; None: not whole yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower()
    status = head[9:12]
    if not head.startswith(b"http/1.") or not status.isdigit():
        return Reply(problem="broken", reason="not HTTP"), False
    keep = head.startswith(b"http/1.1") and _header(head, b"connection") != b"close"
    length = b"0" if status in (b"204", b"304") else _header(head, b"content-length")
    if length is None:
        # Chunked, or up to the end of the connection: the status is all that we need of those.
        return Reply(int(status)), False
    return _with_body(int(status), buffer[end + 4 :], length, keep)


def _with_body(
    status: int, body: bytearray, length: bytes, keep: bool
) -> tuple[Reply, bool] | None:
    if not length.isdigit() or int(length) > MOST_BYTES:
        return Reply(problem="broken", reason=f"Content-Length {length[:20]!r}"), False
    if len(body) < int(length):
        return None
    return Reply(status, bytes(body[: int(length)])), keep and len(body) == int(length)


def _header(head: bytes, name: bytes) -> bytes | None:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()
