"""The HTTP API: thin routes over the use cases, behind the guard. See docs/architecture.md."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import flask

from labcore.codec import decode, encode
from labcore.errors import Conflict, Forbidden, NotFound, UsageProblem
from labcore.names import check_name
from labcore.web import (
    PRINCIPAL,
    Guard,
    WsgiApp,
    answer_errors_as_json,
)
from labcore.wire.event import Event
from labcore.wire.lab import Desired, Mode
from server_manager.drivers.base import ConsoleLog
from server_manager.manager import Manager, driver_list
from server_manager.metrics import Metrics
from server_manager.power import Target
from server_manager.secrets import ADMIN, SCALER_PREFIX

HOSTS = frozenset({"127.0.0.1", "localhost", "10.0.2.2"})  # the last: nodes behind VirtualBox NAT
# A long poll holds a thread. Beyond this many at once they are answered as they come.
MOST_LONG_POLLS = 8
LONGEST_POLL_S = 30.0
MOST_EVENTS = 1000
MOST_LOG_LINES = 5000
T = TypeVar("T")
Answer = dict[str, object] | tuple[dict[str, object], int]


@dataclass(frozen=True)
class PowerRequest:
    """The body of `POST /servers/power`."""

    action: str
    server: str


@dataclass(frozen=True)
class GroupRequest:
    """The body of `PATCH /labs/{lab}/groups/{group}`."""

    desired_count: int | None = None
    mode: Mode | None = None


def make_app(manager: Manager, metrics: Metrics) -> WsgiApp:
    """The server-manager's API, guarded."""
    app = flask.Flask("server_manager", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    answer_errors_as_json(app)
    api = _Api(manager)
    app.add_url_rule("/", view_func=api.root, endpoint="root")
    app.add_url_rule("/metrics", view_func=_metrics_view(metrics), endpoint="metrics")
    for rule, method, view in api.routes():
        endpoint = f"{method} {rule}"
        app.add_url_rule(f"/api/v1{rule}", endpoint, view, methods=[method])
    guard = Guard(
        hosts=HOSTS,
        tokens=manager.core.secrets.principals,
        is_open=lambda method, path: method == "GET" and path == "/",
    )
    return guard.wrap(app.wsgi_app)


def _metrics_view(metrics: Metrics) -> Callable[[], flask.Response]:
    def view() -> flask.Response:
        _admin()
        return flask.Response(metrics.text(), content_type=metrics.content_type)

    return view


def _principal() -> str:
    return str(flask.request.environ.get(PRINCIPAL) or "")


def _scaler_of() -> str | None:
    """The lab whose scaler calls; None: a person does."""
    principal = _principal()
    return principal.removeprefix(SCALER_PREFIX) if principal.startswith(SCALER_PREFIX) else None


def _admin() -> None:
    if _principal() != ADMIN:
        raise Forbidden("a scaler may not do this")


def _body(kind: type[T]) -> T:
    return decode(kind, _json())


def _json() -> object:
    raw = flask.request.get_data(cache=False)
    if not raw:
        raise UsageProblem("a JSON body is needed")
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"the body is not JSON: {error}") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _number(name: str, default: float, most: float) -> float:
    text = flask.request.args.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise UsageProblem(f"{name}={text!r} is not a number from 0")
    return min(number, most)


class _Api:
    """The views. Each says who may call it, calls one use case, and shows what came of it."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._core = manager.core
        self._polls = threading.Semaphore(MOST_LONG_POLLS)

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        server = "/servers/<lab>/<name>"
        return [
            ("/labs", "GET", self.labs),
            ("/labs/<lab>", "GET", self.lab),
            ("/labs/<lab>", "PUT", self.put_lab),
            ("/labs/<lab>", "DELETE", self.destroy_lab),
            ("/labs/<lab>/down", "POST", self.down_lab),
            ("/labs/<lab>/cancel", "POST", self.cancel),
            ("/labs/<lab>/plan", "GET", self.plan),
            ("/labs/<lab>/plan", "POST", self.plan_of_file),
            ("/labs/<lab>/groups/<group>", "PATCH", self.patch_group),
            ("/servers/power", "POST", self.power),
            ("/servers", "GET", self.servers),
            ("/servers/<name>", "GET", self.server),
            ("/servers/<name>", "DELETE", self.delete_server),
            (server, "GET", self.server),
            (server, "DELETE", self.delete_server),
            ("/servers/<name>/<any(pause, resume, kill):action>", "POST", self.act),
            (f"{server}/<any(pause, resume, kill):action>", "POST", self.act),
            (f"{server}/logs", "GET", self.logs),
            ("/events", "GET", self.events),
            ("/events", "POST", self.post_event),
            ("/drivers", "GET", self.drivers),
        ]

    def root(self) -> Answer:
        return {"service": "server-manager-api", "status": "running"}

    def _own(self, lab: str) -> str:
        """The lab of a route, if the caller may see it: any for a person, its own for a scaler."""
        scaler_of = _scaler_of()
        if scaler_of is not None:
            if scaler_of != lab:
                raise Forbidden(f"this token is for lab {scaler_of!r}")
            self._manager.power.heard_from_scaler(lab)
        return check_name(lab, "lab")

    def _own_changed(self, lab: str) -> str:
        """`_own`, and no change by a scaler unless its lab is to be up."""
        self._own(lab)
        if _scaler_of() and self._core.labs.get(lab).desired is not Desired.UP:
            raise Conflict(f"lab {lab!r} is not to be up")
        return lab

    def labs(self) -> Answer:
        _admin()
        return {"labs": encode(self._manager.labs())}

    def lab(self, lab: str) -> Answer:
        return dict(encode(self._manager.lab(self._own(lab))))

    def put_lab(self, lab: str) -> Answer:
        _admin()
        run = self._manager.put(check_name(lab, "lab"), _json())
        return {"lab": lab, "run": run}, 202

    def destroy_lab(self, lab: str) -> Answer:
        _admin()
        return {"lab": lab, "run": self._manager.destroy(lab)}, 202

    def down_lab(self, lab: str) -> Answer:
        _admin()
        return {"lab": lab, "run": self._manager.down(lab)}, 202

    def cancel(self, lab: str) -> Answer:
        _admin()
        self._manager.cancel(lab)
        return {"lab": lab}

    def plan(self, lab: str) -> Answer:
        _admin()
        return {"lab": lab, "steps": encode(self._manager.plan(lab))}

    def plan_of_file(self, lab: str) -> Answer:
        _admin()
        return {"lab": lab, "steps": encode(self._manager.plan(check_name(lab, "lab"), _json()))}

    def patch_group(self, lab: str, group: str) -> Answer:
        self._own_changed(lab)
        wish = _body(GroupRequest)
        return dict(encode(self._manager.set_group(lab, group, wish.desired_count, wish.mode)))

    def power(self) -> Answer:
        wish = _body(PowerRequest)
        if wish.action not in ("on", "off"):
            raise UsageProblem(f"action {wish.action!r} is neither on nor off")
        lab = _scaler_of()
        if lab is not None:
            self._own_changed(lab)
        target = self._manager.power.find(wish.server, lab)
        act = self._manager.power.on if wish.action == "on" else self._manager.power.off
        act(target, by_scaler=lab is not None)
        return {"status": f"Server '{wish.server}' turned {wish.action} successfully."}

    def servers(self) -> Answer:
        lab = flask.request.args.get("lab") or _scaler_of()
        if lab is not None:
            return {"servers": encode(self._manager.lab(self._own(lab)).servers)}
        return {"servers": encode([s for one in self._manager.labs() for s in one.servers])}

    def server(self, name: str, lab: str | None = None) -> Answer:
        target = self._target(name, lab)
        row = self._manager.power.row(target)
        return dict(encode(self._manager.view.server(target.lab, row)))

    def _target(self, name: str, lab: str | None) -> Target:
        scaler_of = _scaler_of()
        if scaler_of is not None:
            self._own(lab or scaler_of)
        return self._manager.power.find(name, lab or scaler_of)

    def delete_server(self, name: str, lab: str | None = None) -> Answer:
        _admin()
        target = self._target(name, lab)
        self._manager.power.delete(target)
        return {"status": f"Server '{name}' removed successfully."}

    def act(self, name: str, action: str, lab: str | None = None) -> Answer:
        _admin()
        self._manager.power.act(self._target(name, lab), action)
        return {"status": f"Server '{name}': {action} done."}

    def logs(self, lab: str, name: str) -> Answer:
        _admin()
        target = self._target(name, lab)
        row = self._manager.power.row(target)
        driver = self._core.driver(target.lab)
        if not driver.capabilities().console_log:
            raise Conflict(f"driver {target.lab.spec.driver!r} shows no logs from outside a node")
        source = flask.request.args.get("service")
        if source is not None:
            self._known_service(target, source)
        console: ConsoleLog = driver  # type: ignore[assignment]  # what the capability promises
        lines = int(_number("lines", 100, MOST_LOG_LINES))
        return {"lines": list(console.console_log(row.ref, source, lines))}

    def _known_service(self, target: Target, service: str) -> None:
        if service not in target.group.services:
            known = ", ".join(target.group.services)
            raise NotFound(f"{target.name} has no service {service!r}", f"services: {known}")

    def events(self) -> Answer:
        lab = flask.request.args.get("lab") or _scaler_of()
        if lab is not None:
            self._own(lab)
        after = int(_number("after", 0, 2**53))
        limit = int(_number("limit", MOST_EVENTS, MOST_EVENTS))
        wait_s = _number("wait_s", 0, LONGEST_POLL_S)
        held = wait_s > 0 and self._polls.acquire(blocking=False)
        try:
            found = self._core.events.wait(after, lab, limit, wait_s if held else 0.0)
        finally:
            if held:
                self._polls.release()
        return {"events": encode(found)}

    def post_event(self) -> Answer:
        event = _body(Event)
        self._own_changed(event.lab)
        self._core.labs.get(event.lab)
        if event.seq != 0:
            raise UsageProblem("$.seq: must be 0 in a new event")
        if event.node is not None:
            check_name(event.node, "node")
        return {"seq": self._core.events.add(event)}, 201

    def drivers(self) -> Answer:
        _admin()
        return {"drivers": driver_list(self._core)}
