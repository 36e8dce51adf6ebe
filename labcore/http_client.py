"""One small JSON client over the standard library, for every caller inside and outside nodes.

Nodes have no pip, and importing `requests` costs a command 0.2-0.4 s; see docs/decisions.md.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Mapping

from labcore.errors import LabError, Unreachable, from_wire

MOST_BYTES = 8 * 1024 * 1024


def call(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    timeout_s: float = 5.0,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Send one HTTP request and return status and body, whatever the status is.

    A body is sent as JSON. Redirects are not followed, nothing is retried, proxies are ignored.
    Raises Unreachable if no whole answer came within `timeout_s` (per socket operation).
    """
    parts = urllib.parse.urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    sent = {"Accept": "application/json", "Connection": "close", **(headers or {})}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    payload = None
    if body is not None:
        payload = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(
        parts.hostname or "127.0.0.1", parts.port or 80, timeout=timeout_s
    )
    try:
        connection.connect()
        # A server may refuse a large body before it has read it all: its answer is there to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, target, payload, sent)
        response = connection.getresponse()
        return response.status, response.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        cause = str(error) or type(error).__name__
        raise Unreachable(f"{parts.netloc} does not answer: {cause}") from error
    finally:
        connection.close()


def call_json(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    timeout_s: float = 5.0,
) -> object:
    """`call`, but: returns the JSON value of a 2xx answer, raises the LabError of any other.

    Raises LabError, the class that the error's code names; Unreachable as `call` does, and where
    the answer is not JSON.
    """
    raw = call_bytes(method, url, body, token=token, timeout_s=timeout_s)
    try:
        return json.loads(raw) if raw else None
    except ValueError as error:
        raise Unreachable(f"{method} {url}: the answer is not JSON") from error


def call_bytes(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    timeout_s: float = 5.0,
) -> bytes:
    """`call_json`, for answers that are no JSON; errors are."""
    status, raw = call(method, url, body, token=token, timeout_s=timeout_s)
    if 200 <= status < 300:
        return raw
    try:
        value: object = json.loads(raw)
    except ValueError:
        value = None
    problem: LabError = from_wire(value, f"{method} {url}: HTTP {status}")
    raise problem
