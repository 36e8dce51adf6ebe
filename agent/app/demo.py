"""The demo application: plain WSGI, so that it starts in a moment and carries real load.

| request | answer |
| --- | --- |
| `GET /` | which node answered: `{"node", "lab", "group", "region"}` |
| `GET` or `POST /work?ms=20` | after burning that much CPU time (0 to 10,000 ms) |
| `GET /slow?s=1` | after doing nothing for that long (0 to 60 s) |
| `POST /echo` | the body, under its own content type (up to 1 MiB) |
| `GET /health` | `{"status": "ok"}` |
| `GET /.labctl/gauges` | `{"in_flight": 3}`, for the metrics service of the node |

It is open to everybody that nginx lets through: no token, and any Host, as clients send theirs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from agent.app.burning import Cores
from labcore.clock import Clock
from labcore.errors import LabError, NotFound, UsageProblem
from labcore.wire.node import NodeConfig

HEALTH_PATH = "/health"
GAUGES_PATH = "/.labctl/gauges"
MOST_WORK_MS = 10_000.0
MOST_SLOW_S = 60.0
MOST_BODY_BYTES = 1024 * 1024

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class WrongMethod(UsageProblem):
    """A path that is there, asked in a way that it does not know."""

    http_status = 405


@dataclass(frozen=True)
class Answer:
    """What a route gives back."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200


Environ = dict[str, Any]
Route = Callable[[Environ], Answer]


def make_app(
    node: NodeConfig, clock: Clock, gauges: Callable[[], Mapping[str, float]]
) -> Callable[[Environ, Callable[..., Any]], Iterable[bytes]]:
    """The WSGI app of one node. `gauges` says what the app is doing, whenever it is asked."""
    routes = _routes(node, clock, gauges)

    def app(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer = _route(routes, environ)(environ)
        except LabError as error:
            answer = _json(error.to_wire(), error.http_status)
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body
        start(
            f"{answer.status} {_REASONS[answer.status]}",
            [("Content-Type", answer.content_type), ("Content-Length", str(len(body)))],
        )
        return [body]

    return app


def _routes(
    node: NodeConfig, clock: Clock, gauges: Callable[[], Mapping[str, float]]
) -> Mapping[str, Mapping[str, Route]]:
    cores = Cores(math.ceil(node.cpus))
    who = {"node": node.node, "lab": node.lab, "group": node.group, "region": node.region}

    def work(environ: Environ) -> Answer:
        ms = _number(environ, "ms", 20.0, MOST_WORK_MS)
        cores.burn(ms / 1000)
        return _json({"node": node.node, "worked_ms": ms})

    def slow(environ: Environ) -> Answer:
        seconds = _number(environ, "s", 1.0, MOST_SLOW_S)
        clock.sleep(seconds)
        return _json({"node": node.node, "slept_s": seconds})

    def echo(environ: Environ) -> Answer:
        kind = environ.get("CONTENT_TYPE") or "application/octet-stream"
        return Answer(environ["wsgi.input"].read(), kind)

    return {
        "/": {"GET": lambda environ: _json(who)},
        "/work": {"GET": work, "POST": work},
        "/slow": {"GET": slow},
        "/echo": {"POST": echo},
        HEALTH_PATH: {"GET": lambda environ: _json({"status": "ok", "node": node.node})},
        GAUGES_PATH: {"GET": lambda environ: _json(gauges())},
    }


def _route(routes: Mapping[str, Mapping[str, Route]], environ: Environ) -> Route:
    path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
    if path not in routes:
        raise NotFound(f"there is no {path!r} here", f"there is: {', '.join(routes)}")
    methods = routes[path]
    asked = "GET" if method == "HEAD" else method
    if asked not in methods:
        raise WrongMethod(f"{method} {path} is not known", f"known: {', '.join(methods)}")
    return methods[asked]


def _number(environ: Environ, name: str, default: float, most: float) -> float:
    """A number from the query, 0 to `most`; raises UsageProblem."""
    given = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get(name)
    if given is None:
        return default
    try:
        value = float(given[-1])
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise UsageProblem(f"{name}={given[-1]} is not a number from 0 to {most:g}")
    return value


def _json(value: object, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode() + b"\n", status=status)
