"""Real HTTP servers on ephemeral ports that behave, and that misbehave in one known way each."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

LINE = b"HTTP/1.1 "
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Labctl-Backend: agent-1\r\n\r\nok"


@dataclass
class Peer:
    """One server: its URL and the requests that it has read, over all connections."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    open: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


Answer = Callable[[socket.socket, int], bool]
"""Answers the n-th request (from 1) of a connection; False: close the connection."""


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[Peer]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    peer = Peer(port=listener.getsockname()[1])
    thread = threading.Thread(target=_accept, args=(listener, peer, answer), daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for client in tuple(peer.open):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, peer: Peer, answer: Answer) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            break
        peer.connections += 1
        peer.open.add(client)
        threading.Thread(target=_talk, args=(client, peer, answer), daemon=True).start()


def _talk(client: socket.socket, peer: Peer, answer: Answer) -> None:
    with client, contextlib.suppress(OSError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = client.makefile("rb")
        count = 0
        while line := stream.readline():
            length = 0
            while (header := stream.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            stream.read(length)
            peer.requests.append(line.decode().strip())
            count += 1
            if not answer(client, count):
                break
        stream.close()
    peer.open.discard(client)


def well(client: socket.socket, count: int) -> bool:
    client.sendall(OK)
    return True


def second_request_unanswered(client: socket.socket, count: int) -> bool:
    """Keeps the connection, reads the next request on it, and closes: a stale keep-alive."""
    if count == 1:
        client.sendall(OK)
    return count == 1


def resets(client: socket.socket, count: int) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def breaks_off(client: socket.socket, count: int) -> bool:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    return False


def babbles(client: socket.socket, count: int) -> bool:
    client.sendall(b"hello, this is no HTTP\r\n\r\n")
    return False


def silent(client: socket.socket, count: int) -> bool:
    """Reads on, says nothing."""
    return True


def says(status: int) -> Answer:
    def answer(client: socket.socket, count: int) -> bool:
        client.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        return True

    return answer
