"""An agent for the drain tests: every kind of request that nginx carries, and its own metrics."""

import asyncio
import contextlib
import threading

from aiohttp import web

from labcore.wire.lab import Wanted

MOST_BODY_BYTES = 16 * 1024 * 1024
# What the scaler asks is no request to the app.
OWN_PATHS = ("/health", "/metrics", "/drain")


class App:
    """App and metrics on one port while it is on; `off` ends everything at once, as a power-off
    does. To be used as `tests.scaler.running.Agent` is."""

    def __init__(self, name):
        self.name = name
        self.wanted = Wanted.ON
        self.draining = False
        self.was_drained = False
        self.seq = 0
        self.in_flight = 0
        self.in_flight_when_off = None
        self.address = ""
        self.server = None

    def on(self):
        self.wanted, self.draining = Wanted.ON, False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server = self._in_loop(self._start())

    def off(self):
        if self.server is None:
            return
        self.was_drained, self.in_flight_when_off = self.draining, self.in_flight
        server, self.server = self.server, None
        self._in_loop(self._cut(server))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_loop(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _cut(self, runner):
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _start(self):
        app = web.Application(middlewares=[self._count], client_max_size=MOST_BODY_BYTES)
        app.add_routes(
            [
                web.get("/health", self._hello),
                web.get("/metrics", self._metrics),
                web.post("/drain", self._drain),
                web.get("/slow", self._slow),
                web.post("/upload", self._upload),
                web.get("/events", self._events),
                web.get("/ws", self._echo),
                web.route("*", "/{rest:.*}", self._hello),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return runner

    @web.middleware
    async def _count(self, request, handler):
        counts = request.path not in OWN_PATHS
        self.in_flight += counts
        try:
            return await handler(request)
        finally:
            self.in_flight -= counts

    async def _hello(self, request):
        return web.Response(text=self.name)

    async def _metrics(self, request):
        self.seq += 1
        return web.json_response(
            {
                "cpu": 50.0,
                "memory": {"total": 8, "available": 4, "percent": 50.0},
                "status": "draining" if self.draining else "active",
                "node": self.name,
                "seq": self.seq,
                "uptime_s": 1.0,
                "in_flight": self.in_flight,
            }
        )

    async def _drain(self, request):
        self.draining = (await request.json())["draining"]
        return web.json_response({})

    async def _slow(self, request):
        await asyncio.sleep(float(request.query["s"]))
        return web.Response(text="whole")

    async def _upload(self, request):
        return web.Response(text=str(len(await request.read())))

    async def _events(self, request):
        """As many events as asked for, ten a second."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for number in range(int(request.query["n"])):
                await response.write(f"data: {number}\n\n".encode())
                await asyncio.sleep(0.1)
        return response

    async def _echo(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket
