"""The HTTP API: what it answers, to whom, and how it refuses. Real waitress, fake driver."""

import http.client
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from labcore.clock import SystemClock
from labcore.codec import decode
from labcore.errors import Conflict, Forbidden
from labcore.http_client import call
from labcore.manager_client import ManagerClient
from labcore.waiting import NotYet, wait_until
from labcore.web import MOST_BODY_BYTES, make_server
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Lab, LabState, Server
from labcore.wire.node import SCALER_TOKEN
from server_manager.app import make_app
from server_manager.executors import Threads
from server_manager.manager import Manager
from server_manager.metrics import Metrics
from tests.server_manager.parts import LAB, Parts, make_parts

LAB_FILE: dict[str, object] = {"driver": "fake"}


@dataclass
class Api:
    parts: Parts
    url: str
    admin: str

    @property
    def client(self) -> ManagerClient:
        return ManagerClient(self.url, self.admin)

    def scaler(self, lab: str = "demo") -> ManagerClient:
        return ManagerClient(self.url, self.token(lab))

    def token(self, lab: str = "demo") -> str:
        return self.parts.core.secrets.of(lab)[SCALER_TOKEN]

    def up(self, lab: str = "demo") -> Lab:
        self.client.put_lab(lab, LAB_FILE)
        return self.settled(lab)

    def settled(self, lab: str = "demo") -> Lab:
        def probe() -> Lab:
            found = self.client.lab(lab)
            if found.state is LabState.CONVERGING:
                raise NotYet
            return found

        return wait_until(probe, name="the run to end", limit_s=20, clock=SystemClock())

    def raw(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        sent = {"Authorization": f"Bearer {self.admin}", "Content-Type": "application/json"}
        sent.update(headers or {})
        try:
            connection.request(method, path, body or None, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = make_parts(tmp_path_factory.mktemp("api"), executor=Threads(), clock=SystemClock())
    metrics = Metrics()
    manager = Manager(made.core, metrics.observe)
    metrics.watch(manager)
    made.manager = manager
    server: Any = make_server(
        make_app(manager, metrics), "127.0.0.1:0", threads=12, most_body_bytes=MOST_BODY_BYTES
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    admin = next(t for t, who in made.core.secrets.principals().items() if who == "admin")
    yield Api(made, f"http://127.0.0.1:{server.effective_port}", admin)
    made.core.events.close()
    server.close()
    thread.join(timeout=10)
    made.core.database.close()


@pytest.fixture
def api(served: Api) -> Iterator[Api]:
    yield served
    for lab in served.client.labs():
        served.settled(lab.lab)
        served.client.destroy(lab.lab)
        run_is_over(served)


def run_is_over(api: Api) -> None:
    def probe() -> None:
        if not api.parts.manager.runs.none_is_on():
            raise NotYet

    wait_until(probe, name="the run to end", limit_s=20, clock=SystemClock())


def error_of(raw: bytes) -> dict[str, str]:
    error = json.loads(raw)["error"]
    assert set(error) >= {"code", "message", "hint"}
    return dict(error)


def test_the_root_is_open_and_says_what_it_is(api):
    status, raw = call("GET", f"{api.url}/")
    assert status == 200
    assert json.loads(raw) == {"service": "server-manager-api", "status": "running"}


def test_up_power_and_gone_over_http(api):
    lab = api.up()
    assert lab.state is LabState.UP
    assert api.client.power("agent-3", "on") == "Server 'agent-3' turned on successfully."
    assert api.client.server("demo", "agent-3").index == 3
    answer = api.client.request("GET", "/servers/agent-3")
    assert decode(Server, answer).name == "agent-3"
    names = [s["name"] for s in api.client.request("GET", "/servers?lab=demo")["servers"]]
    assert names == ["agent-1", "agent-2", "agent-3", "control"]
    run = api.client.destroy("demo")
    run_is_over(api)
    last = api.client.events("demo", after=run)[-1]
    assert last.data == {"run": run, "state": "destroyed"}
    assert api.client.labs() == ()


def test_a_group_is_written_within_its_bounds(api):
    api.up()
    api.scaler().set_group("demo", "agent", desired_count=4, mode="manual")
    group = api.client.lab("demo").group("agent")
    assert (group.desired_count, group.mode) == (4, "manual")
    for count in (1, 6):
        with pytest.raises(Conflict, match=r"outside 2\.\.5"):
            api.scaler().set_group("demo", "agent", desired_count=count)
    with pytest.raises(Conflict, match="fixed size"):
        api.client.set_group("demo", "control", desired_count=2)


def test_faults_over_http(api):
    api.up()
    for action, state in (("pause", "paused"), ("resume", "running"), ("kill", "stopped")):
        api.client.server_action("demo", "agent-1", action)
        assert api.client.server("demo", "agent-1").state == state
    assert api.raw("POST", "/api/v1/servers/agent-2/kill")[0] == 200


def test_the_plan_over_http(api):
    status, raw = api.raw("POST", "/api/v1/labs/demo/plan", json.dumps(LAB).encode())
    assert status == 200
    assert [s["action"] for s in json.loads(raw)["steps"]] == ["create"] * 3
    api.up()
    answer = api.client.request("GET", "/labs/demo/plan")
    assert [s["action"] for s in answer["steps"]] == ["keep"] * 3


def test_logs_over_http(api):
    api.up()
    api.parts.driver.print_line("demo", "agent-1", "app", "hello")
    path = "/servers/demo/agent-1/logs?service=app&lines=5"
    assert api.client.request("GET", path) == {"lines": ["hello"]}
    assert api.raw("GET", "/api/v1/servers/demo/agent-1/logs?service=nginx")[0] == 404


def test_drivers_over_http(api):
    (driver,) = api.client.request("GET", "/drivers")["drivers"]
    assert driver["name"] == "fake"
    assert driver["ok"] is True
    assert driver["capabilities"]["pause"] is True


def test_labs_of_others_over_http(api):
    api.up()
    assert api.client.elsewhere() == ()  # its back end is nobody else's


def test_a_long_poll_ends_when_something_happens(api):
    api.up()
    last = api.client.events("demo")[-1].seq
    got: list[Event] = []
    waiting = threading.Thread(
        target=lambda: got.extend(api.client.events("demo", after=last, wait_s=20))
    )
    waiting.start()
    event = Event(0, "2026-01-01T00:00:00Z", "demo", EventKind.DECISION, "out", None, {"n": 1})
    api.scaler().post_event(event)
    waiting.join(timeout=10)
    assert [(e.message, e.data) for e in got] == [("out", {"n": 1})]


def test_many_long_polls_leave_threads_for_the_rest(api):
    """More polls than the server has threads: those too many are answered at once."""
    path = "/api/v1/events?after=999999999&wait_s=0.5"
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(api.raw("GET", path)[0])) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    assert api.raw("GET", "/")[0] == 200
    for thread in threads:
        thread.join(timeout=20)
    assert answers == [200] * 20


def test_metrics_for_prometheus(api):
    api.up()
    status, raw = api.raw("GET", "/metrics")
    text = raw.decode()
    assert status == 200
    assert 'labctl_labs{state="up"} 1.0' in text
    assert 'labctl_servers{group="agent",lab="demo",state="running"} 2.0' in text
    assert 'labctl_operations_total{operation="create",outcome="done"}' in text
    assert 'labctl_operation_seconds_bucket{le="0.01",operation="start"}' in text


class TestTheScalersToken:
    def test_reads_and_powers_its_own_lab_by_node_name(self, api):
        api.up("one")
        api.up("two")
        assert api.scaler("one").lab("one").lab == "one"
        api.scaler("one").power("agent-3", "on")
        assert api.client.server("one", "agent-3").state == "running"
        assert len(api.client.lab("two").servers) == 3

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/labs/two", None),
            ("GET", "/labs", None),
            ("GET", "/events?lab=two", None),
            ("GET", "/servers?lab=two", None),
            ("GET", "/servers/two/agent-1", None),
            ("GET", "/drivers", None),
            ("GET", "/elsewhere", None),
            ("PUT", "/labs/one", LAB_FILE),
            ("DELETE", "/labs/one", None),
            ("POST", "/labs/one/down", None),
            ("POST", "/labs/one/cancel", None),
            ("PATCH", "/labs/two/groups/agent", {"desired_count": 3}),
            ("POST", "/servers/power", {"action": "off", "server": "two/agent-1"}),
            ("POST", "/servers/power", {"action": "off", "server": "control"}),
            ("POST", "/servers/one/agent-1/kill", None),
            ("DELETE", "/servers/one/agent-1", None),
            (
                "POST",
                "/events",
                {"seq": 0, "at": "x", "lab": "two", "kind": "problem", "message": "x"},
            ),
        ],
    )
    def test_may_not(self, api, method, path, body):
        api.up("one")
        api.up("two")
        headers = {"Authorization": f"Bearer {api.token('one')}"}
        payload = json.dumps(body).encode() if body else b""
        status, raw = api.raw(method, f"/api/v1{path}", payload, headers)
        assert status == 403
        assert error_of(raw)["code"] == "forbidden"

    def test_changes_nothing_once_the_lab_is_not_to_be_up(self, api):
        api.up()
        api.client.down("demo")
        api.settled()
        for change in (
            lambda: api.scaler().power("agent-1", "on"),
            lambda: api.scaler().server_action("demo", "agent-3", "standby"),
            lambda: api.scaler().set_group("demo", "agent", desired_count=3),
            lambda: api.scaler().post_event(Event(0, "x", "demo", EventKind.PROBLEM, "x")),
        ):
            with pytest.raises(Conflict):
                change()
        assert api.scaler().lab("demo").state is LabState.DOWN

    def test_ends_with_its_lab(self, api):
        api.up()
        token = api.token()
        api.client.destroy("demo")
        run_is_over(api)
        headers = {"Authorization": f"Bearer {token}"}
        assert api.raw("GET", "/api/v1/labs/demo", headers=headers)[0] == 401


POWER = "/api/v1/servers/power"
DEEP = b"[" * 60_000
ABUSE: list[tuple[str, str, bytes, dict[str, str], int]] = [
    ("GET", "/api/v1/labs", b"", {"Authorization": ""}, 401),
    ("GET", "/api/v1/labs", b"", {"Authorization": "Bearer nope"}, 401),
    ("GET", "/api/v1/labs", b"", {"Authorization": "Basic nope"}, 401),
    ("GET", "/metrics", b"", {"Authorization": ""}, 401),
    ("POST", "/", b"", {"Authorization": ""}, 401),
    ("GET", "/", b"", {"Host": "evil.example"}, 403),
    ("GET", "/", b"", {"Origin": "http://localhost:3000"}, 403),
    ("POST", POWER, b"", {}, 400),
    ("POST", POWER, b"{", {}, 400),
    ("POST", POWER, b"\xff\xfe", {}, 400),
    ("POST", POWER, b"[]", {}, 400),
    ("POST", POWER, b"null", {}, 400),
    ("POST", POWER, DEEP, {}, 400),
    ("POST", POWER, b'{"action": NaN, "server": "agent-1"}', {}, 400),
    ("POST", POWER, b'{"action": "explode", "server": "agent-1"}', {}, 400),
    ("POST", POWER, b'{"action": "on"}', {}, 400),
    ("POST", POWER, b'{"server": "agent-1"}', {}, 400),
    ("POST", POWER, b'{"action": "on", "server": 3}', {}, 400),
    ("POST", POWER, b'{"action": "on", "server": "agent-1", "force": true}', {}, 400),
    ("POST", POWER, b'{"action": "on", "server": "agent-99"}', {}, 404),
    ("POST", POWER, b'{"action": "on", "server": "../../etc"}', {}, 404),
    ("POST", POWER, b'{"action": "on", "server": "nope/agent-1"}', {}, 404),
    ("POST", POWER, b'{"action": "off", "server": "agent-1"}', {}, 409),
    ("POST", POWER, b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("PUT", "/api/v1/labs/Bad_Name", b"{}", {}, 400),
    ("PUT", "/api/v1/labs/demo%0a", b"{}", {}, 400),
    ("PUT", "/api/v1/labs/new", b'{"driver": "fake", "colour": "red"}', {}, 400),
    ("PUT", "/api/v1/labs/new", b'{"driver": "vmware"}', {}, 400),
    ("PATCH", "/api/v1/labs/demo/groups/nope", b'{"desired_count": 3}', {}, 404),
    ("PATCH", "/api/v1/labs/demo/groups/agent", b'{"desired_count": true}', {}, 400),
    ("PATCH", "/api/v1/labs/demo/groups/agent", b'{"desired_count": -1}', {}, 409),
    ("PATCH", "/api/v1/labs/demo/groups/agent", b'{"mode": "wild"}', {}, 400),
    ("GET", "/api/v1/events?after=x", b"", {}, 400),
    ("GET", "/api/v1/events?after=-1", b"", {}, 400),
    ("GET", "/api/v1/events?wait_s=nan", b"", {}, 400),
    ("GET", "/api/v1/events?limit=1e300", b"", {}, 400),
    ("POST", "/api/v1/events", b'{"seq": 1}', {}, 400),
    ("GET", "/api/v1/servers/demo/agent-1/logs?lines=many", b"", {}, 400),
    ("GET", "/api/v1/servers/demo/agent-77", b"", {}, 404),
    ("GET", "/api/v1/labs/nope", b"", {}, 404),
    ("GET", "/api/v1/nowhere", b"", {}, 404),
    ("GET", "/%00", b"", {}, 404),
    ("POST", "/api/v1/servers/demo/agent-1/explode", b"", {}, 404),
    ("PATCH", "/api/v1/labs", b"", {}, 405),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "expected"), ABUSE)
def test_abuse_is_refused_with_a_reason(api, caplog, method, path, body, headers, expected):
    if not api.client.labs():
        api.up()
    caplog.clear()
    status, raw = api.raw(method, path, body, headers)
    assert status == expected
    assert error_of(raw)["message"]
    assert b"Traceback" not in raw
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_ten_megabytes_are_refused(api):
    """By their announcement: nobody reads them first."""
    status, raw = api.raw("PUT", "/api/v1/labs/new", headers={"Content-Length": "10000000"})
    assert status == 413
    assert b"Traceback" not in raw


def test_a_fault_of_ours_is_logged_and_told_without_its_insides(api, caplog, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret insides")

    monkeypatch.setattr(api.parts.manager, "lab", broken)
    status, raw = api.raw("GET", "/api/v1/labs/demo")
    assert status == 500
    assert b"insides" not in raw
    assert error_of(raw)["code"] == "failed"
    assert "secret insides" in caplog.text


def test_no_secret_reaches_a_log(api, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    api.up()
    api.scaler().power("agent-3", "on")
    api.raw("POST", POWER, json.dumps({"action": api.admin, "server": api.admin}).encode())
    for secret in api.parts.core.secrets.values():
        assert secret not in caplog.text


def test_only_the_scaler_keeps_standby_nodes_and_pauses_nothing_else(api):
    api.client.put_lab("demo", {**LAB_FILE, "scaling": {"standby": 1}})
    api.settled()
    scaler = api.scaler()
    scaler.server_action("demo", "agent-3", "standby")
    scaler.server_action("demo", "agent-3", "pause")
    found = scaler.server("demo", "agent-3")
    assert (found.wanted, found.state) == ("standby", "paused")
    with pytest.raises(Conflict, match="is wanted on"):
        scaler.server_action("demo", "agent-1", "pause")
    with pytest.raises(Forbidden):
        scaler.server_action("demo", "agent-3", "resume")
    with pytest.raises(Forbidden, match="only the scaler"):
        api.client.server_action("demo", "agent-4", "standby")
