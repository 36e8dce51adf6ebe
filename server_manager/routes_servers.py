"""Views of single servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flask

from labcore.codec import encode
from labcore.errors import Conflict, Forbidden, NotFound, UsageProblem
from server_manager.drivers.base import ConsoleLog
from server_manager.power import Target
from server_manager.requests import Answer, Views, body, check_admin, number, scaler_of

MOST_LOG_LINES = 5000
STANDBY_HINT = "scaling.standby in lab.yaml says how many there are"


@dataclass(frozen=True)
class PowerRequest:
    """The body of `POST /servers/power`."""

    action: str
    server: str


class ServerViews(Views):
    """Below `/api/v1/servers`."""

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        """Rule, method and view of each."""
        server = "/servers/<lab>/<name>"
        return [
            ("/servers/power", "POST", self.power),
            ("/servers", "GET", self.servers),
            ("/servers/<name>", "GET", self.server),
            ("/servers/<name>", "DELETE", self.delete_server),
            (server, "GET", self.server),
            (server, "DELETE", self.delete_server),
            ("/servers/<name>/<any(pause, resume, kill):action>", "POST", self.act),
            (f"{server}/<any(pause, resume, kill):action>", "POST", self.act),
            (f"{server}/standby", "POST", self.standby),
            (f"{server}/logs", "GET", self.logs),
        ]

    def power(self) -> Answer:
        wish = body(PowerRequest)
        if wish.action not in ("on", "off"):
            raise UsageProblem(f"action {wish.action!r} is neither on nor off")
        lab = scaler_of()
        if lab is not None:
            self.own_changed(lab)
        target = self.manager.power.find(wish.server, lab)
        act = self.manager.power.on if wish.action == "on" else self.manager.power.off
        act(target, by_scaler=lab is not None)
        return {"status": f"Server '{wish.server}' turned {wish.action} successfully."}

    def servers(self) -> Answer:
        lab = flask.request.args.get("lab") or scaler_of()
        if lab is not None:
            return {"servers": encode(self.manager.lab(self.own(lab)).servers)}
        return {"servers": encode([s for one in self.manager.labs() for s in one.servers])}

    def server(self, name: str, lab: str | None = None) -> Answer:
        target = self._target(name, lab)
        row = self.manager.power.row(target)
        return dict(encode(self.manager.view.server(target.lab, row)))

    def _target(self, name: str, lab: str | None) -> Target:
        caller = scaler_of()
        if caller is not None:
            self.own(lab or caller)
        return self.manager.power.find(name, lab or caller)

    def delete_server(self, name: str, lab: str | None = None) -> Answer:
        check_admin()
        target = self._target(name, lab)
        self.manager.power.delete(target)
        return {"status": f"Server '{name}' removed successfully."}

    def act(self, name: str, action: str, lab: str | None = None) -> Answer:
        caller = scaler_of()
        if caller is not None and action == "pause":
            self.own_changed(lab or caller)
            self.manager.power.pause_standby(self._target(name, lab))
        else:
            check_admin()
            self.manager.power.act(self._target(name, lab), action)
        return {"status": f"Server '{name}': {action} done."}

    def standby(self, lab: str, name: str) -> Answer:
        if scaler_of() is None:
            raise Forbidden("only the scaler of a lab keeps standby nodes", STANDBY_HINT)
        self.own_changed(lab)
        self.manager.power.standby(self._target(name, lab))
        return {"status": f"Server '{name}' is wanted as standby."}

    def logs(self, lab: str, name: str) -> Answer:
        check_admin()
        target = self._target(name, lab)
        row = self.manager.power.row(target)
        driver = self.core.driver(target.lab)
        if not driver.capabilities().console_log:
            raise Conflict(f"driver {target.lab.spec.driver!r} shows no logs from outside a node")
        source = flask.request.args.get("service")
        if source is not None:
            self._known_service(target, source)
        console: ConsoleLog = driver  # type: ignore[assignment]  # what the capability promises
        lines = int(number("lines", 100, MOST_LOG_LINES))
        return {"lines": list(console.console_log(row.ref, source, lines))}

    def _known_service(self, target: Target, service: str) -> None:
        if service not in target.group.services:
            known = ", ".join(target.group.services)
            raise NotFound(f"{target.name} has no service {service!r}", f"services: {known}")
