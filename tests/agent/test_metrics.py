"""The metrics service as a real process, beside a real app. Its supervisor is this test."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from labcore import codec
from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from labcore.wire.metrics import AgentMetrics
from tests.agent.running import ANY, ROOT, TOKEN, Answer, Program, running, write_config

pytestmark = pytest.mark.local

ALLOWED = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


class Node:
    """An agent node: its app, and its metrics service, which can be started anew."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.changes = changes
        self.stack = ExitStack()
        self.app = self.stack.enter_context(running("agent.app", write_config(folder)))
        self.metrics = self.start_metrics()

    def start_metrics(self) -> Program:
        config = write_config(
            self.folder, listen={"app": self.app.address, "metrics": ANY}, **self.changes
        )
        self.metrics = self.stack.enter_context(running("agent.metrics", config))
        return self.metrics

    def says(self) -> AgentMetrics:
        answer = self.metrics.ask("/metrics")
        assert answer.status == 200
        return codec.decode(AgentMetrics, answer.json)

    def drain(self, body: object, headers: dict[str, str] | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.metrics.ask("/drain", "POST", raw, ALLOWED if headers is None else headers)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"))
    with made.stack:
        yield made


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    with made.stack:
        yield made


def wait_for(what: str, holds: Any) -> None:
    def probe() -> None:
        if not holds():
            raise NotYet

    wait_until(probe, name=what, limit_s=20, clock=SystemClock())


def test_is_what_the_contract_says(node: Node):
    raw = node.metrics.ask("/metrics").json
    assert set(raw) == {
        *("cpu", "memory", "status", "node", "seq", "uptime_s", "in_flight", "gauges")
    }
    assert set(raw["memory"]) == {"total", "available", "percent"}
    said = node.says()
    assert (said.node, said.status, said.memory.total) == ("agent-1", "active", 1024 * 1024 * 1024)
    assert 0 <= said.cpu <= 100
    assert 0 < said.memory.percent < 100
    # Its supervisor, which began when the node did, is the process that started it: this one.
    began = psutil.Process(os.getpid()).create_time()
    assert said.uptime_s == pytest.approx(SystemClock().now().timestamp() - began, abs=5)


def test_the_first_question_is_answered_with_a_first_sample(own_node: Node):
    assert own_node.says().seq >= 1


def test_samples_follow_each_other(node: Node):
    first = node.says().seq
    wait_for("three more samples", lambda: node.says().seq >= first + 3)


def test_the_load_of_the_app_is_the_nodes(node: Node):
    wait_for("cpu of an idle node", lambda: node.says().cpu < 10)
    seen = threading.Event()

    def work() -> None:
        while not seen.is_set():
            assert node.app.ask("/work?ms=200").status == 200

    with ThreadPoolExecutor(1) as client:
        working = client.submit(work)
        try:
            wait_for("cpu of a busy node", lambda: node.says().cpu > 20)
        finally:
            seen.set()
        working.result()


def test_in_flight_rides_along(node: Node):
    with ThreadPoolExecutor(3) as clients:
        slow = [clients.submit(node.app.ask, "/slow?s=1.5") for _ in range(3)]
        wait_for("three requests in flight", lambda: node.says().in_flight == 3)
        assert {s.result().status for s in slow} == {200}
    wait_for("no request in flight", lambda: node.says().in_flight == 0)


def test_a_node_whose_app_is_gone_says_nothing_of_it(own_node: Node):
    assert own_node.app.stop() == 0
    wait_for("no word of the app", lambda: own_node.says().in_flight is None)
    assert own_node.drain({"draining": True}).status == 200
    assert own_node.says().in_flight is None


def test_draining_outlives_the_service_and_clears(own_node: Node):
    assert own_node.drain({"draining": True}).status == 200
    assert own_node.drain({"draining": True}).status == 200
    assert own_node.says().status == "draining"
    own_node.metrics.process.kill()
    own_node.start_metrics()
    assert own_node.says().status == "draining"
    assert own_node.drain({"draining": False}).json == {"draining": False}
    assert own_node.says().status == "active"
    assert own_node.metrics.stop() == 0
    own_node.start_metrics()
    assert own_node.says().status == "active"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 401),
        ({"Content-Type": "application/json", "Authorization": "Bearer wrong"}, 401),
        ({"Content-Type": "application/json", "Authorization": f"Basic {TOKEN}"}, 401),
        ({"Content-Type": "text/plain", "Authorization": f"Bearer {TOKEN}"}, 415),
        ({**ALLOWED, "Origin": "http://127.0.0.1"}, 403),
        ({**ALLOWED, "Host": "shop.example"}, 403),
    ],
)
def test_who_may_not_drain(node: Node, headers: dict[str, str], status: int):
    assert node.drain({"draining": True}, headers).status == status
    assert node.says().status == "active"


@pytest.mark.parametrize(
    "body", [{}, {"draining": 1}, {"draining": None}, {"draining": True, "x": 1}, [], b"{", b""]
)
def test_what_is_not_a_drain_request(node: Node, body: object):
    answer = node.drain(body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "usage")
    assert node.says().status == "active"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/plain;q=0.5", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("image/png", "application/json"),
        ("text/plain", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text",
        ),
    ],
)
def test_the_format_is_the_one_asked_for(node: Node, accept: str | None, kind: str):
    answer = node.metrics.ask("/metrics", headers={"Accept": accept} if accept else {})
    assert answer.status == 200
    assert answer.headers["Content-Type"].split(";")[0] == kind
    text = answer.body.decode()
    if kind == "application/json":
        assert answer.json["node"] == "agent-1"
    else:
        read = read_text if kind == "text/plain" else read_openmetrics
        assert "labctl_cpu_percent" in {family.name for family in read(text)}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("GET", "/x", 404), ("GET", "/drain", 405)],
)
def test_every_answer_is_json(node: Node, method: str, path: str, status: int):
    answer = node.metrics.ask(path, method)
    assert answer.status == status
    assert ("error" in answer.json) == (status != 200)


def test_a_machine_of_its_own(tmp_path: Path):
    node = Node(tmp_path, scope="system", cpus=0.01, memory_mib=1)
    with node.stack:
        said = node.says()
        assert said.memory.total == psutil.virtual_memory().total
        since_boot = SystemClock().now().timestamp() - psutil.boot_time()
        assert said.uptime_s == pytest.approx(since_boot, abs=5)


def test_is_small_and_cheap(node: Node):
    process = psutil.Process(node.metrics.process.pid)
    assert process.memory_info().rss < 40 * 1024 * 1024
    node.says()
    began, before = node.says().seq, process.cpu_times()
    wait_for("six samples", lambda: node.says().seq >= began + 6)
    after = process.cpu_times()
    # 3 s: at 1 % of a core it would be 0.03; the questions that are asked here cost the most.
    assert after.user + after.system - before.user - before.system < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secrets": {}}, "node agent-1 has no secret 'agent-token'"),
        ({"secrets": {"agent-token": "/nowhere/token"}}, "No such file or directory"),
        ({"scope": "galaxy"}, "'galaxy' is not one of tree, system"),
        ({"listen": {"metrics": "here"}}, "'here' is not address:port"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_code_2(
    tmp_path: Path, changes: dict[str, object], message: str
):
    ended = subprocess.run(
        [sys.executable, "-m", "agent.metrics", "--config", str(write_config(tmp_path, **changes))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
