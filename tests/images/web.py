"""A small web server on loopback that has one file, and misbehaves as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """`breaks_after` bytes of an answer the connection ends, `breaks` times."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.ranges = True  # can send the rest of a file
        self.etag: str | None = '"one"'
        self.breaks = 0
        self.breaks_after = 0
        self.status: int | None = None  # answered instead
        self.asked: list[tuple[str, str | None]] = []  # path, Range
        self.sent = 0  # bytes of bodies
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.web = self  # type: ignore[attr-defined]
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_port}/disk.raw"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(content: bytes) -> Iterator[Web]:
    web = Web(content)
    try:
        yield web
    finally:
        web.stop()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        web.asked.append((self.path, wanted))
        if self.path != "/disk.raw" or web.status is not None:
            self.send_error(web.status or 404)
            return
        start = 0
        if wanted and web.ranges and self.headers.get("If-Range") == web.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = web.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(web.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(web.content)}")
        if web.etag:
            self.send_header("ETag", web.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if web.breaks > 0:
            web.breaks -= 1
            body = body[: web.breaks_after]
        self.wfile.write(body)
        web.sent += len(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
