"""The HTTP API: views over the use cases, behind the guard. See docs/architecture.md."""

from __future__ import annotations

import flask

from labcore.web import Guard, WsgiApp, answer_errors_as_json
from server_manager.manager import Manager
from server_manager.metrics import Metrics
from server_manager.requests import check_admin
from server_manager.routes_events import EventViews
from server_manager.routes_images import ImageViews
from server_manager.routes_labs import LabViews
from server_manager.routes_servers import ServerViews

HOSTS = frozenset({"127.0.0.1", "localhost", "10.0.2.2"})  # the last: nodes behind VirtualBox NAT


class Hosts:
    """By which names we may be called: HOSTS, and this machine's own addresses, as guests on a
    bridge of it call us by that. None of them is a name that somebody could point at us."""

    def __contains__(self, host: object) -> bool:
        return host in HOSTS or host in own_addresses()


def own_addresses() -> frozenset[str]:
    """The addresses of this machine now."""
    # Imported here: asked only where a guest calls.
    import psutil

    return frozenset(one.address for many in psutil.net_if_addrs().values() for one in many)


def make_app(manager: Manager, metrics: Metrics) -> WsgiApp:
    """The server-manager's API, guarded: only `GET /` needs no token."""
    app = flask.Flask("server_manager", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    answer_errors_as_json(app)

    def root() -> dict[str, object]:
        return {"service": "server-manager-api", "status": "running"}

    def scrape() -> flask.Response:
        check_admin()
        return flask.Response(metrics.text(), content_type=metrics.content_type)

    app.add_url_rule("/", view_func=root)
    app.add_url_rule("/metrics", view_func=scrape)
    parts = (LabViews(manager), ServerViews(manager), EventViews(manager), ImageViews(manager))
    for views in parts:
        for rule, method, view in views.routes():
            app.add_url_rule(f"/api/v1{rule}", f"{method} {rule}", view, methods=[method])
    guard = Guard(
        hosts=Hosts(),
        tokens=manager.core.secrets.principals,
        is_open=lambda method, path: method == "GET" and path == "/",
    )
    return guard.wrap(app.wsgi_app)
