"""A server-manager and a scaler in one small HTTP server, told by a test what to answer."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import psutil

from labcore.codec import encode
from labcore.errors import Conflict, LabError, NotFound, Unreachable
from labcore.files import write_json, write_secret
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import (
    Desired,
    Group,
    Lab,
    LabElsewhere,
    LabState,
    PowerState,
    Scaling,
    Server,
    Wanted,
)
from labcore.wire.scaler import (
    Action,
    BalancerStatus,
    Decision,
    GroupStatus,
    Health,
    NodeSample,
    NodeStatus,
    ScalerStatus,
)
from server_manager.paths import StatePaths

AT = "2026-01-01T12:00:00.000Z"


def server(name: str, **changes: Any) -> Server:
    """A running server of lab demo."""
    index = int(name.rpartition("-")[2]) if "-" in name else 1
    control = name == "control"
    ports = {"nginx": 8080, "scaler": 5200} if control else {"app": 5000 + index}
    if not control:
        ports["metrics"] = 5100 + index
    plain = Server(
        name=name,
        lab="demo",
        group="control" if control else "agent",
        role="control" if control else "agent",
        region="main",
        index=index,
        wanted=Wanted.ON,
        state=PowerState.RUNNING,
        endpoints={"host": {service: f"127.0.0.1:{port}" for service, port in ports.items()}},
        cpus=1.0,
        memory_mib=512,
    )
    return dataclasses.replace(plain, **changes)


def lab(scaler_url: str | None = None, **changes: Any) -> Lab:
    """Lab demo, up, with two agents."""
    plain = Lab(
        lab="demo",
        driver="local",
        desired=Desired.UP,
        state=LabState.UP,
        created_at=AT,
        groups=(
            Group("control", "control", "main", 1, "manual", ("nginx", "scaler"), 1.0, 512),
            Group("agent", "agent", "main", 2, "auto", ("metrics", "app"), 1.0, 512, Scaling()),
        ),
        balancers=(),
        servers=(server("agent-2"), server("control"), server("agent-1")),
        load_balancer_url="http://127.0.0.1:8080",
        scaler_url=scaler_url,
    )
    return dataclasses.replace(plain, **changes)


def node(name: str, cpu: float | None = 12.4, **changes: Any) -> NodeStatus:
    """A serving agent as the scaler sees it."""
    history = (5.0, 20.0, 60.0, 12.4)
    plain = NodeStatus(name, "agent", Health.HEALTHY, True, "serving", cpu, 40.0, 0, history)
    return dataclasses.replace(plain, **changes)


DECISION = Decision(
    seq=7,
    at=AT,
    group="agent",
    policy="threshold",
    action=Action.HOLD,
    current=2,
    count=2,
    reasons=("average CPU 81 % is above 70 %",),
    vetoes=("the cooldown after the last change lasts 12 s more",),
    samples=(NodeSample("agent-1", 80.9, 40.0, 3), NodeSample("agent-2", None, None)),
    inputs={"cpu_percent": 80.9, "cooldown_remaining_s": 12.0},
)
STATUS = ScalerStatus(
    lab="demo",
    at=AT,
    manager_reachable=True,
    balancer=BalancerStatus("g1", {"agent": ("agent-1", "agent-2")}),
    groups=(GroupStatus("agent", "auto", "threshold", 2, 5, 2, 2, 12.0, DECISION, None),),
    nodes=(node("agent-1"), node("agent-2", 81.0)),
)


def gate(seq: int, name: str, word: str, seconds: float) -> Event:
    """A node passes a gate of run 1."""
    data = {"gate": word, "seconds": seconds, "run": 1}
    message = f"{name}: {word} after {seconds:.1f} s"
    return Event(seq, AT, "demo", EventKind.GATE, message, name, data)


def end(seq: int, state: str, message: str = "", **data: object) -> Event:
    """The end of run 1."""
    told = {"run": 1, "state": state, **data}
    return Event(seq, AT, "demo", EventKind.LAB, message or f"demo: {state}", None, told)


class Double:
    """What is answered, and what was asked. Change the fields as a test needs it."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.double = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.labs: list[Lab] = [lab(self.url)]
        self.elsewhere: list[LabElsewhere] = []
        self.events: list[Event] = []
        self.status: ScalerStatus | None = STATUS
        self.decisions: tuple[Decision, ...] = (DECISION,)
        self.steps: list[dict[str, str]] = []
        self.lines = ["one", "two", "three"]
        self.drivers: list[dict[str, object]] = [
            {
                "name": "local",
                "ok": True,
                "version": "1",
                "reason": "",
                "fix": "",
                "capabilities": {"access": "local", "gates": ["created", "healthy", "serving"]},
            }
        ]
        self.adopted: list[dict[str, object]] = []
        self.scales = True  # at once
        self.busy = False  # with a run, until it is cancelled
        self.refusal: LabError | None = None  # answered to every change
        self.asked: list[tuple[str, str, Any]] = []  # changes only
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> None:
        """Serve, and be found by labctl as the server-manager of this test's state directory."""
        self._thread.start()
        paths = StatePaths.find()
        paths.make()
        process = psutil.Process(os.getpid())
        said = {"pid": process.pid, "created": process.create_time(), "url": self.url}
        write_json(paths.manager, said)
        write_secret(paths.admin_token, "admin-token")
        write_secret(paths.secrets("demo") / "scaler-api-token", "scaler-token")
        paths.database.touch()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def find(self, name: str) -> Lab:
        """The lab of that name; raises NotFound."""
        for known in self.labs:
            if known.lab == name:
                return known
        raise NotFound(f"there is no lab {name!r}")

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> object:
        """The JSON value for one request; raises a LabError."""
        if method != "GET":
            self.asked.append((method, path, body))
            if self.refusal is not None:
                raise self.refusal
        if path.startswith("/api/v1"):
            return self._manager(method, path.removeprefix("/api/v1"), query, body)
        if path == "/":
            return {"service": "server-manager-api", "status": "running"}
        return self._scaler(path, body)

    def _manager(self, method: str, path: str, query: dict[str, str], body: Any) -> object:
        fixed = {
            "/labs": {"labs": encode(self.labs)},
            "/elsewhere": {"labs": encode(self.elsewhere)},
            "/drivers": {"drivers": self.drivers},
        }
        if path in fixed:
            return fixed[path]
        if path == "/events":
            return {"events": self._events(query)}
        kind, name, *rest = path.strip("/").split("/")
        if kind == "labs":
            return self._lab(method, name, rest)
        if path == "/servers/power":
            status = f"Server '{body['server']}' turned {body['action']} successfully."
            return {"status": status}
        return {"lines": self.lines[-int(query["lines"]) :]} if rest[-1] == "logs" else {}

    def _lab(self, method: str, name: str, rest: list[str]) -> object:
        if rest[:1] == ["adoption"]:
            return self._adoption(method, name, rest[1:])
        if rest == ["plan"]:
            return {"lab": name, "steps": self.steps}
        if rest == ["file"]:
            return {"lab": self.find(name).lab, "driver": "local"}
        if rest == ["cancel"]:
            self.busy = False
        elif method == "DELETE" and self.busy:
            raise Conflict("`up` is still running")
        return encode(self.find(name)) if method == "GET" else {"lab": name, "run": 1}

    def _adoption(self, method: str, name: str, rest: list[str]) -> object:
        if method == "PUT":
            return {"lab": name, "nodes": self.adopted}
        return b"seed of " + rest[1].encode() if method == "GET" else {"lab": name, "run": 1}

    def _events(self, query: dict[str, str]) -> object:
        found = [e for e in self.events if e.seq > int(query["after"])]
        if not found and float(query["wait_s"]):
            self._stopped.wait(0.05)  # a long poll, made short
        return encode(found[: int(query["limit"])])

    def _scaler(self, path: str, body: Any) -> object:
        if self.status is None:
            raise Unreachable("refused")
        if path == "/decisions":
            return {"decisions": encode(self.decisions)}
        if path == "/scale" and self.scales:
            (group,) = self.status.groups
            now = dataclasses.replace(
                group, desired_count=body["count"], serving=body["count"], mode="manual"
            )
            self.status = dataclasses.replace(self.status, groups=(now,))
        if path == "/mode":
            control, agent = self.labs[0].groups
            changed = dataclasses.replace(agent, mode=body["mode"])
            self.labs[0] = dataclasses.replace(self.labs[0], groups=(control, changed))
        return encode(self.status)


class _Handler(BaseHTTPRequestHandler):
    TOKENS: ClassVar = {True: "Bearer admin-token", False: "Bearer scaler-token"}

    def _answer(self) -> None:
        double: Double = self.server.double  # type: ignore[attr-defined]
        parts = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            wanted = self.TOKENS[parts.path.startswith("/api/")]
            if parts.path != "/" and self.headers.get("Authorization") != wanted:
                raise Conflict("wrong token")
            query = dict(urllib.parse.parse_qsl(parts.query))
            status, value = 200, double.answer(self.command, parts.path, query, body)
        except LabError as error:
            status, value = error.http_status, error.to_wire()
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - http.server's

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
