"""What is under way while a node is removed: each returns what became of it, with the node."""

import asyncio
from dataclasses import dataclass

import aiohttp

BACKEND = "X-Labctl-Backend"
CUT = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class End:
    """How one request or stream ended; `at` is the loop's time."""

    kind: str
    node: str
    whole: bool
    at: float


class Clients:
    """Opens requests and streams through a load balancer, one after the other."""

    def __init__(self, session, url):
        self.session = session
        self.url = url
        self.ends = []

    async def open_on_each(self, kind, *, seconds):
        """Two of a kind: least_conn gives one to each of two nodes."""
        for _ in range(2):
            reached = asyncio.get_running_loop().create_future()
            self.ends.append(asyncio.create_task(self._watch(kind, seconds, reached)))
            await reached

    async def _watch(self, kind, seconds, reached):
        whole = False
        node = ""
        try:
            async for step in getattr(self, "_" + kind)(seconds):
                if isinstance(step, bool):
                    whole = step
                    continue
                node = step
                if not reached.done():
                    reached.set_result(None)
        except CUT:
            pass
        return End(kind, node, whole, asyncio.get_running_loop().time())

    async def _slow(self, seconds):
        yield ""  # nothing comes before its end
        async with self.session.get(f"{self.url}/slow?s={seconds}") as response:
            yield response.headers[BACKEND]
            yield await response.text() == "whole"

    async def _upload(self, seconds):
        size = 0

        async def body():
            nonlocal size
            for _ in range(int(seconds * 10)):
                size += 20_000
                yield bytes(20_000)
                await asyncio.sleep(0.1)

        yield ""
        async with self.session.post(f"{self.url}/upload", data=body()) as response:
            yield response.headers[BACKEND]
            yield response.status == 200 and int(await response.text()) == size

    async def _sse(self, seconds):
        count = int(seconds * 10)
        async with self.session.get(f"{self.url}/events?n={count}") as response:
            yield response.headers[BACKEND]
            lines = (await response.text()).split()
            yield lines[-1] == str(count - 1)

    async def _websocket(self, seconds):
        async with self.session.ws_connect(f"{self.url}/ws") as socket:
            yield socket._response.headers[BACKEND]
            for number in range(int(seconds * 10)):
                await socket.send_str(str(number))
                echoed = await socket.receive()
                if echoed.data != str(number):
                    return
                await asyncio.sleep(0.1)
            yield True
