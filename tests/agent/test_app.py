"""The demo application as a real process."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import psutil
import pytest

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from tests.agent.running import ROOT, Answer, Program, running, write_config

pytestmark = pytest.mark.local

GAUGES = "/.labctl/gauges"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running("agent.app", write_config(tmp_path_factory.mktemp("node"))) as program:
        yield program


@pytest.fixture
def own_app(tmp_path: Path) -> Iterator[Program]:
    with running("agent.app", write_config(tmp_path)) as program:
        yield program


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def in_flight(app: Program) -> int:
    value = app.ask(GAUGES).json["in_flight"]
    assert isinstance(value, int)
    return value


def wait_for_in_flight(app: Program, wanted: int) -> None:
    def probe() -> None:
        seen = in_flight(app)
        if seen != wanted:
            raise NotYet(f"{seen} in flight")

    wait_until(probe, name=f"{wanted} requests in flight", limit_s=20, clock=SystemClock())


def send(
    clients: ThreadPoolExecutor, app: Program, path: str, count: int
) -> list["Future[Answer]"]:
    return [clients.submit(app.ask, path) for _ in range(count)]


def test_says_which_node_answered(app: Program):
    answer = app.ask("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {"node": "agent-1", "lab": "demo", "group": "agent", "region": "home"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_work_burns_the_cpu_time_that_was_asked_for(app: Program, method: str):
    process = psutil.Process(app.process.pid)
    before = process.cpu_times()
    assert app.ask("/work?ms=300", method).json == {"node": "agent-1", "worked_ms": 300}
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    assert 0.28 <= spent <= 0.6


def test_slow_waits_and_burns_nothing(app: Program):
    process = psutil.Process(app.process.pid)
    before, began = process.cpu_times(), SystemClock().monotonic()
    assert app.ask("/slow?s=0.3").json == {"node": "agent-1", "slept_s": 0.3}
    after, ended = process.cpu_times(), SystemClock().monotonic()
    assert ended - began >= 0.3
    assert after.user + after.system - before.user - before.system <= 0.1


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "image/png", None])
@pytest.mark.parametrize("body", [b"", b"hello", bytes(range(256)) * 4096])
def test_echo_returns_the_body(app: Program, kind: str | None, body: bytes):
    answer = app.ask("/echo", "POST", body, {"Content-Type": kind} if kind else {})
    assert answer.status == 200
    assert answer.body == body
    assert answer.headers["Content-Type"] == (kind or "application/octet-stream")


def test_echo_returns_a_body_of_unknown_length(app: Program):
    connection = app.connect()
    connection.request("POST", "/echo", iter([b"a" * 1000, b"b" * 1000]), encode_chunked=True)
    assert connection.getresponse().read() == b"a" * 1000 + b"b" * 1000
    connection.close()


def test_echo_refuses_more_than_a_mebibyte(app: Program):
    host, port = app.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        # The headers alone: who sends the body as well may find the connection closed meanwhile.
        head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {1024 * 1024 + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "path",
    [
        "/work?ms=",
        "/work?ms=x",
        "/work?ms=-1",
        "/work?ms=10001",
        "/work?ms=nan",
        "/work?ms=inf",
        "/work?ms=%00",
        f"/work?ms={'9' * 400}",
        "/slow?s=61",
        "/slow?s=-0.1",
    ],
)
def test_a_bad_parameter_is_a_usage_problem(app: Program, path: str):
    answer = app.ask(path)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "usage"
    assert "is not a number from 0 to" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/%ff%fe", 404, "not-found"),
        ("POST", "/", 405, "usage"),
        ("GET", "/echo", 405, "usage"),
        ("DELETE", "/work", 405, "usage"),
        ("POST", GAUGES, 405, "usage"),
    ],
)
def test_what_is_not_there_is_a_json_error(
    app: Program, method: str, path: str, status: int, code: str
):
    answer = app.ask(path, method)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


def test_head_is_get_without_a_body(app: Program):
    answer = app.ask("/health", "HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "shop.example"},
        {"Host": "shop.example:notaport"},
        {"Host": "ünfug".encode().decode("latin-1")},
        {"Origin": "https://elsewhere.example"},
        {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"},
    ],
)
def test_any_client_of_the_load_balancer_is_served(app: Program, headers: dict[str, str]):
    assert app.ask("/health", headers=headers).status == 200


def test_counts_what_is_in_flight_and_what_waits_for_a_thread(
    own_app: Program, clients: ThreadPoolExecutor
):
    assert in_flight(own_app) == 0
    answers = send(clients, own_app, "/slow?s=0.7", 34)  # more than there are threads
    wait_for_in_flight(own_app, 34)
    assert {a.result().status for a in answers} == {200}
    wait_for_in_flight(own_app, 0)


def test_a_request_that_is_still_being_sent_is_in_flight(own_app: Program):
    host, port = own_app.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        wait_for_in_flight(own_app, 1)
        connection.sendall(b"cd")
        response = HTTPResponse(connection)
        response.begin()
        assert response.read() == b"abcd"
        wait_for_in_flight(own_app, 0)


def test_health_does_not_queue_behind_the_load(clients: ThreadPoolExecutor, own_app: Program):
    answers = send(clients, own_app, "/slow?s=60", 34)  # more than there are threads
    wait_for_in_flight(own_app, 34)
    assert own_app.ask("/health").status == 200
    assert not any(a.done() for a in answers)


def test_stopping_finishes_what_is_in_flight(own_app: Program, clients: ThreadPoolExecutor):
    idle = own_app.connect()
    idle.request("GET", "/")
    idle.getresponse().read()
    answers = send(clients, own_app, "/slow?s=0.5", 40)
    wait_for_in_flight(own_app, 40)
    assert own_app.stop() == 0
    assert [a.result().status for a in answers] == [200] * 40
    assert {a.result().headers.get("Connection") for a in answers} == {"close"}
    assert idle.sock.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        own_app.ask("/")


def test_what_the_kernel_accepted_for_it_is_answered(own_app: Program):
    """Connections that stand in the listening socket's queue when it is told to stop."""
    host, port = own_app.address.split(":")
    own_app.process.send_signal(signal.SIGSTOP)
    connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(10)]
    for connection in connections:
        connection.sendall(b"GET /work?ms=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    own_app.process.send_signal(signal.SIGTERM)
    own_app.process.send_signal(signal.SIGCONT)
    for connection in connections:
        with connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert own_app.process.wait(timeout=40) == 0


def test_work_for_a_client_that_went_away_is_in_flight_and_makes_no_noise(own_app: Program):
    host, port = own_app.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for_in_flight(own_app, 1)
    assert in_flight(own_app) == 1
    wait_for_in_flight(own_app, 0)
    assert own_app.stop() == 0
    assert own_app.process.stderr is not None
    assert own_app.process.stderr.read() == ""


def test_clients_that_never_pause_do_not_keep_it_from_stopping(
    own_app: Program, clients: ThreadPoolExecutor
):
    told = threading.Event()
    all_answered = threading.Barrier(9)

    def hammer() -> None:
        connection = own_app.connect()
        first = True
        try:
            while True:
                connection.request("GET", "/work?ms=1")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                if first:
                    all_answered.wait(20)
                    first = False
                if answer.getheader("Connection") == "close":
                    return
        except (OSError, HTTPException):
            assert told.is_set(), "a request was lost before the app was told to stop"
        finally:
            connection.close()

    hammering = [clients.submit(hammer) for _ in range(8)]
    all_answered.wait(20)
    told.set()
    began = SystemClock().monotonic()
    assert own_app.stop() == 0
    assert SystemClock().monotonic() - began < 10
    for hammer_ended in hammering:
        hammer_ended.result()


def test_is_small(app: Program):
    app.ask("/echo", "POST", bytes(1024 * 1024))
    assert psutil.Process(app.process.pid).memory_info().rss < 40 * 1024 * 1024


def _no_address(folder: Path) -> Path:
    return write_config(folder, listen={})


def _unknown_field(folder: Path) -> Path:
    return write_config(folder, colour="blue")


def _no_json(folder: Path) -> Path:
    path = write_config(folder)
    path.write_text("{")
    return path


def _missing(folder: Path) -> Path:
    return folder / "nothing.json"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_no_address, "node agent-1 has no address for 'app'"),
        (_unknown_field, "unknown field 'colour'"),
        (_no_json, "node.json: Expecting property name"),
        (_missing, "there is no such file"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_code_2(
    tmp_path: Path, write: Callable[[Path], Path], message: str
):
    ended = subprocess.run(
        [sys.executable, "-m", "agent.app", "--config", str(write(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_an_address_that_is_taken_is_one_line_and_exit_code_1(app: Program, tmp_path: Path):
    config = write_config(tmp_path, listen={"app": app.address})
    ended = subprocess.run(
        [sys.executable, "-m", "agent.app", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_gauges_are_numbers_by_name(app: Program):
    answer = app.ask(GAUGES)
    assert all(isinstance(v, int | float) for v in json.loads(answer.body).values())
