"""Pure: routing and settings in, the text of nginx.conf out (the template lies beside)."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from control_node.balancer.model import Backend, Routing
from labcore import codec
from labcore.errors import UsageProblem
from labcore.names import check_name
from labcore.nginx import KEEPALIVE_MIN_TIMEOUT, Version
from labcore.web import split_address
from labcore.wire.lab import Balancer, Route

TEMPLATE = Path(__file__).with_name("nginx.conf.j2")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_HEADERS = (
    "proxy_set_header Host $http_host;",
    "proxy_set_header X-Forwarded-For $remote_addr;",
    "proxy_set_header X-Request-Id $labctl_request_id;",
)
_KEPT = 'proxy_set_header Connection "";'
# A location that sets one header inherits none.
_UPGRADED = (
    *_HEADERS,
    "proxy_set_header Connection $labctl_connection;",
    "proxy_set_header Upgrade $http_upgrade;",
)
_LONG = ("proxy_read_timeout 1h;", "proxy_send_timeout 1h;")
_OPTIONS = {
    "sse": ("proxy_buffering off;", *_LONG),
    "websocket": (*_UPGRADED, *_LONG),
}


@dataclass(frozen=True)
class Settings:
    """What an nginx.conf depends on besides the routing."""

    listen: str  # "address:port" of the node's first balancer; others: same address, own port
    version: Version
    # Constant over the life of a lab: fewer workers in a reload would drop what the kernel had
    # queued for the others (only with reuseport, which we do not use either).
    workers: int = 2
    user: str | None = None  # "user group" of the workers; None: not root, so they cannot differ


@dataclass(frozen=True)
class _Location:
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    listen: str
    locations: tuple[_Location, ...]


@dataclass(frozen=True)
class _Upstream:
    group: str
    backends: tuple[Backend, ...]


@dataclass(frozen=True)
class _Context:
    """All that the template knows."""

    generation: str
    main: tuple[str, ...]
    keepalive: tuple[str, ...]
    headers: tuple[str, ...]
    backends: tuple[Backend, ...]
    upstreams: tuple[_Upstream, ...]
    entries: tuple[_Entry, ...]


def generation_of(routing: Routing, settings: Settings) -> str:
    """The name of a configuration: equal for equal routing, settings and template.

    The order of backends and the names of balancers do not count. Raises UsageProblem.
    """
    context = _context(routing, settings, "")
    text = json.dumps(
        [
            context.main,
            context.keepalive,
            context.headers,
            [[u.group, codec.encode(u.backends)] for u in context.upstreams],
            [[e.listen, [[x.path, x.lines] for x in e.locations]] for e in context.entries],
            _template_text(),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(routing: Routing, settings: Settings) -> str:
    """The whole nginx.conf; all its paths are relative to nginx's prefix.

    Raises UsageProblem for what it cannot do (tls, routes with options static or rate_limit) and
    for names, paths and addresses that have no business in a configuration.
    """
    context = _context(routing, settings, generation_of(routing, settings))
    values = {name: getattr(context, name) for name in _Context.__dataclass_fields__}
    return _template().render(values)  # type: ignore[attr-defined, no-any-return]


@functools.cache
def _template_text() -> str:
    return TEMPLATE.read_text()


@functools.cache
def _template() -> object:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - not HTML; `_context` lets only safe characters in
    )
    environment.filters["pattern"] = re.escape
    return environment.from_string(_template_text())


def _context(routing: Routing, settings: Settings, generation: str) -> _Context:
    if not routing.balancers:
        raise UsageProblem("no balancer to render")
    upstreams = tuple(
        _Upstream(check_name(group, "group"), _checked(members))
        for group, members in sorted(routing.backends.items())
        if members
    )
    named: dict[str, Backend] = {b.address: b for u in upstreams for b in u.backends}
    groups = {u.group for u in upstreams}
    return _Context(
        generation=generation,
        main=_main(routing, settings),
        keepalive=_keepalive(settings.version),
        headers=(*_HEADERS, _KEPT),
        backends=tuple(sorted(named.values())),
        upstreams=upstreams,
        entries=tuple(
            _Entry(listen, _locations(balancer, groups))
            for balancer, listen in _listening(routing.balancers, settings.listen)
        ),
    )


def _checked(members: tuple[Backend, ...]) -> tuple[Backend, ...]:
    for backend in members:
        check_name(backend.node, "backend")
        _check_address(backend.address)
    addresses = {backend.address for backend in members}
    if len(addresses) < len(members):
        raise UsageProblem("two backends of one group have the same address")
    return tuple(sorted(members))


def _check_address(address: str) -> str:
    split_address(address)
    if not _ADDRESS.fullmatch(address):
        raise UsageProblem(f"{address!r} is not address:port")
    return address


def _main(routing: Routing, settings: Settings) -> tuple[str, ...]:
    # 0 would mean "no limit" to nginx.
    drain_ms = max(1, round(routing.drain_s * 1000))
    user = (f"user {settings.user};",) if settings.user else ()
    return (
        *user,
        f"worker_processes {settings.workers};",
        f"worker_shutdown_timeout {drain_ms}ms;",
    )


def _keepalive(version: Version) -> tuple[str, ...]:
    """A reload closes idle connections; a POST just sent into one is lost (nginx PR 437).

    From 1.27.4 on a connection counts as idle only after `keepalive_min_timeout`; before, the only
    cure is none to close.
    """
    if version >= KEEPALIVE_MIN_TIMEOUT:
        return ("keepalive_timeout 75s;", "keepalive_min_timeout 1s;")
    return ("keepalive_timeout 0;",)


def _listening(balancers: tuple[Balancer, ...], first: str) -> list[tuple[Balancer, str]]:
    host, _ = split_address(_check_address(first))
    found = [(balancers[0], first)]
    found += [(balancer, f"{host}:{balancer.port}") for balancer in balancers[1:]]
    if len({listen for _, listen in found}) < len(found):
        raise UsageProblem("two balancers of one node have the same port")
    return found


def _locations(balancer: Balancer, groups: set[str]) -> tuple[_Location, ...]:
    if balancer.tls:
        raise UsageProblem(f"balancer {balancer.name!r}: tls is not offered yet", "tls: false")
    found = {route.path: _location(balancer, route, groups) for route in balancer.routes}
    if len(found) < len(balancer.routes):
        raise UsageProblem(f"balancer {balancer.name!r} has two routes with the same path")
    if "/" not in found:
        found["/"] = _Location("/", _answer(404, "no-route", "no route has this path"))
    return tuple(found[path] for path in sorted(found))


def _location(balancer: Balancer, route: Route, groups: set[str]) -> _Location:
    where = f"balancer {balancer.name!r}, route {route.path!r}"
    if not _PATH.fullmatch(route.path) or route.path.startswith("/.labctl"):
        raise UsageProblem(f"{where}: this path cannot be routed")
    check_name(route.to, f"{where}: group")
    lines: list[str] = []
    for option in route.options:
        if option not in _OPTIONS:
            raise UsageProblem(
                f"{where}: option {option!r} is not offered yet", f"known: {', '.join(_OPTIONS)}"
            )
        lines += [line for line in _OPTIONS[option] if line not in lines]
    if route.to not in groups:
        text = f"no node of group {route.to} is in rotation"
        return _Location(route.path, _answer(503, "no-backends", text))
    return _Location(route.path, (f"proxy_pass http://{route.to};", *lines))


def _answer(status: int, code: str, message: str) -> tuple[str, ...]:
    body = {"error": {"code": code, "message": message, "hint": "labctl status shows the lab"}}
    return ("default_type application/json;", f"return {status} '{json.dumps(body)}';")
