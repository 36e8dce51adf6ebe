"""`python -m benchmarks.harness.app ADDRESS`: the fastest app server that plain Python allows, so
that what is measured is what stands in front of it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


class App(asyncio.Protocol):
    """Answers every request whose head and body have come, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            _, _, rest = head.partition(b"content-length:")
            whole = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if rest else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            self.transport.write(ANSWER)
            # What nginx speaks to backends by default before 1.29.7.
            if b" http/1.0\r\n" in head:
                self.transport.close()


async def serve(address: str) -> None:
    """Serve until killed."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(App, host, int(port), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
