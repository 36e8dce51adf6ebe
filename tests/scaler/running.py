"""A scaler in real time: all parts of the process but its API, agents on loopback, and a
server-manager in memory."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from control_node import policies
from control_node.scaler.controller import Controller
from control_node.scaler.desk import Desk
from control_node.scaler.hands import Hands, Poster, Wishes
from control_node.scaler.runner import Runner
from control_node.scaler.state import Store
from control_node.scaler.status import scaler_status
from labcore.clock import SystemClock
from labcore.errors import Unreachable
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import (
    Balancer,
    Desired,
    Group,
    Lab,
    LabState,
    Mode,
    PowerState,
    Route,
    Scaling,
    Server,
    Wanted,
)

TOKEN = "agent-secret"
CLOCK = SystemClock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    agent: "Agent"

    def do_GET(self):
        agent = self.agent
        if agent.server is None:  # a process that dies takes its connections with it
            self.close_connection = True
            return
        agent.seq += 1
        self.answer(
            {
                "cpu": 50.0,
                "memory": {"total": 8, "available": 4, "percent": 50.0},
                "status": "draining" if agent.draining else "active",
                "node": agent.name,
                "seq": agent.seq,
                "uptime_s": 1.0,
                "in_flight": 0,
            }
        )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/drain":
            self.agent.draining = body["draining"]
        self.answer(body)

    def answer(self, value):
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


class Agent:
    """App and metrics on one port, while it is on."""

    def __init__(self, name):
        self.name = name
        self.wanted = Wanted.ON
        self.draining = False
        self.was_drained = False
        self.is_paused = False
        self.seq = 0
        self.address = ""
        self.server = None

    def on(self):
        self.wanted, self.draining = Wanted.ON, False
        handler = type("Handler", (Handler,), {"agent": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def off(self):
        if self.server is not None:
            self.was_drained = self.draining
            server, self.server = self.server, None
            server.shutdown()
            server.server_close()


class Manager:
    """The server-manager's side of one lab whose agents are made by `make_agent`."""

    scaling = Scaling(interval_s=0.5)
    routes: tuple[Route, ...] = (Route("/", "agent"),)

    def __init__(self, make_agent=Agent):
        self.make_agent = make_agent
        self.agents = {}
        self.desired = 2
        self.mode: Mode = "manual"
        self.events = []
        self.is_away = False
        for name in ("agent-1", "agent-2"):
            self.power(name, "on")

    def lab(self, lab):
        self._check()
        control = Group("control", "control", "r1", 1, "manual", (), 1, 512)
        group = Group("agent", "agent", "r1", self.desired, self.mode, (), 1, 512, self.scaling)
        servers = tuple(self._server(agent) for agent in list(self.agents.values()))
        balancers = (Balancer("lb", "control", self.routes),)
        return Lab(
            lab, "fake", Desired.UP, LabState.UP, "2026-01-01T00:00:00Z", (control, group),
            balancers, servers, None, None,
        )  # fmt: skip

    def _server(self, agent):
        on = PowerState.PAUSED if agent.is_paused else PowerState.RUNNING
        state = on if agent.server else PowerState.STOPPED
        endpoints = {"node": {"app": agent.address, "metrics": agent.address}}
        index = int(agent.name[-1])
        return Server(
            agent.name, "demo", "agent", "agent", "r1", index, agent.wanted, state, endpoints, 1, 1
        )

    def set_group(self, lab, group, *, desired_count=None, mode=None):
        self._check()
        self.desired = desired_count or self.desired
        self.mode = mode or self.mode

    def power(self, server, action):
        self._check()
        agent = self.agents.setdefault(server, self.make_agent(server))
        if action == "on":
            agent.wanted, agent.is_paused = Wanted.ON, False
            if agent.server is None:
                agent.on()
        if action == "off":
            agent.wanted = Wanted.OFF
            agent.off()

    def server_action(self, lab, name, action):
        self._check()
        agent = self.agents.setdefault(name, self.make_agent(name))
        if action == "pause":
            agent.is_paused = True
        elif agent.server is None:
            agent.on()
        agent.wanted = Wanted.STANDBY

    def post_event(self, event):
        self._check()
        self.events.append(event)

    def _check(self):
        if self.is_away:
            raise Unreachable("planned")


class Scaler:
    """All parts of the process but its API, around one state file."""

    def __init__(self, manager, balancer, path):
        self.store = Store(path / "state.json")
        state = self.store.load(CLOCK.monotonic())
        controller = Controller(policies, "control", state)
        self.runner = Runner("demo", controller, self.store, CLOCK)
        self.wishes = Wishes("demo", manager, CLOCK)
        status = scaler_status("demo", CLOCK.now(), controller)
        self.desk = Desk(
            self.wishes, status, wake=self.runner.wake, reset=self.runner.reset_breaker
        )
        hands = Hands(manager, balancer, self.wishes, TOKEN, CLOCK, self.runner.report)
        poster = Poster("demo", manager, CLOCK)
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.runner.run(hands, poster, self.desk))
        )
        self.thread.start()

    def stop(self):
        self.runner.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def serving(self):
        backends = self.desk.status().balancer.backends
        return sorted(backends.get("agent", ()))


def until(condition, name, limit_s=20.0):
    def probe():
        if not condition():
            raise NotYet

    wait_until(probe, name=name, limit_s=limit_s, clock=CLOCK)
