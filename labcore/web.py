"""What all our HTTP servers share: the guard in front of an app, JSON errors, and waitress.

The guard answers before the app sees anything: exact Host allow-list (DNS rebinding), no Origin
(no browser has business here), JSON bodies only, a size limit, bearer tokens in constant time.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labcore.errors import Forbidden, LabError, NotFound, Unauthorized, UsageProblem

MOST_BODY_BYTES = 64 * 1024
BACKLOG = 1024  # connections that wait to be accepted; what waitress has by default
PRINCIPAL = "labctl.principal"  # the WSGI environ key that holds whose token came with a request

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
}


class BodyTooLarge(UsageProblem):
    """A request body over the limit."""

    http_status = 413


class NotJson(UsageProblem):
    """A request body that does not say it is JSON."""

    http_status = 415


@dataclass(frozen=True)
class Guard:
    """The rules of one server. `tokens` maps token -> principal (a name the app can trust)."""

    hosts: Container[str]  # names or addresses, without port
    tokens: Callable[[], Mapping[str, str]]  # read at each request: tokens come and go
    is_open: Callable[[str, str], bool]  # (method, path) that need no token
    most_body_bytes: int = MOST_BODY_BYTES
    json_only: bool = field(default=True)

    def wrap(self, app: WsgiApp) -> WsgiApp:
        """The app behind this guard."""

        def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            try:
                self._check(environ)
            except LabError as error:
                return _refuse(error, start)
            return app(environ, start)

        return guarded

    def _check(self, environ: dict[str, Any]) -> None:
        host = str(environ.get("HTTP_HOST", "")).rsplit(":", 1)[0] or ""
        if host not in self.hosts:
            raise Forbidden("this Host is not served here", "use the address that status shows")
        if "HTTP_ORIGIN" in environ:
            raise Forbidden("requests from web pages are refused")
        self._check_body(environ)
        principal = self._principal(str(environ.get("HTTP_AUTHORIZATION", "")))
        environ[PRINCIPAL] = principal
        if principal is None and not self.is_open(
            environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        ):
            raise Unauthorized("a bearer token is needed", "labctl api METHOD PATH adds it")

    def _check_body(self, environ: dict[str, Any]) -> None:
        length = str(environ.get("CONTENT_LENGTH") or "0")
        if not length.isdigit():
            raise UsageProblem("Content-Length is not a number")
        if int(length) > self.most_body_bytes:
            raise BodyTooLarge(f"the body is larger than {self.most_body_bytes} bytes")
        kind = str(environ.get("CONTENT_TYPE", "")).split(";")[0].strip().lower()
        if self.json_only and int(length) > 0 and kind != "application/json":
            raise NotJson("the body must be application/json", "Content-Type: application/json")

    def _principal(self, header: str) -> str | None:
        scheme, _, given = header.partition(" ")
        found = None
        if scheme.lower() == "bearer":
            for token, principal in self.tokens().items():
                if hmac.compare_digest(token.encode(), given.strip().encode()):
                    found = principal
        return found


def _refuse(error: LabError, start: Callable[..., Any]) -> Iterable[bytes]:
    body = json.dumps(error.to_wire()).encode()
    status = f"{error.http_status} {_REASONS.get(error.http_status, 'Refused')}"
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def answer_errors_as_json(app: Any) -> None:
    """Make a Flask app answer every error with our body: LabErrors, its own 404, 405 and 500.

    Unexpected exceptions are logged by Flask, and answered without their text.
    """
    from werkzeug.exceptions import HTTPException

    def known(error: LabError) -> tuple[dict[str, object], int]:
        return error.to_wire(), error.http_status

    def http(error: HTTPException) -> tuple[dict[str, object], int]:
        status = error.code or 500
        kind = NotFound if status == 404 else UsageProblem if status < 500 else LabError
        return kind(error.description or error.name).to_wire(), status

    app.register_error_handler(LabError, known)
    app.register_error_handler(HTTPException, http)


def split_address(address: str) -> tuple[str, int]:
    """`"127.0.0.1:5001"` as host and port (0: any free one); raises UsageProblem."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageProblem(f"{address!r} is not address:port")
    return host, int(port)


def make_server(app: WsgiApp, address: str, *, threads: int = 8, most_body_bytes: int) -> Any:
    """A waitress server, bound and listening; `.run()` serves until `.close()` is called.

    Raises OSError if the address is taken. Idle keep-alive connections stay open for 120 s, longer
    than nginx keeps its own (60 s), so that nginx never sends into a connection that we close.
    """
    import waitress.server

    host, port = split_address(address)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # Bound here: waitress leaves its sockets open where the address is taken.
    listening = socket.create_server((host, port), backlog=BACKLOG)
    return waitress.server.create_server(
        app,
        sockets=[listening],
        threads=threads,
        ident=None,
        backlog=BACKLOG,
        connection_limit=2000,
        channel_timeout=120,
        asyncore_use_poll=True,
        max_request_body_size=most_body_bytes + 1,  # the first size that waitress refuses
        clear_untrusted_proxy_headers=True,
    )
