"""The real balancer, with every nginx that is installed."""

import asyncio
import dataclasses
import http.client
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.processes import free_address
from control_node.balancer.layout import prepare
from control_node.balancer.model import Backend, Routing
from control_node.balancer.nginx import NginxBalancer
from control_node.balancer.workers import find_master, workers_of
from labcore import codec, files, http_client
from labcore.clock import FakeClock
from labcore.errors import DriverFailed, Unreachable, UsageProblem
from labcore.wire.lab import Balancer, Route
from tests.balancer.conftest import Apps, Rig, routing

pytestmark = pytest.mark.local
LEAST_POSTS = 26


def test_nothing_of_nginx_is_above_a_warning(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    balancer.submit(routing(apps.start("agent-1"), drain_s=1.5))
    rig.settle(balancer)
    assert (rig.layout.directory / "log").read_text() == ""


def test_routes_by_path_with_options(rig: Rig, apps: Apps):
    routes = (
        Route("/", "web"),
        Route("/sse", "agent", ("sse",)),
        Route("/ws", "agent", ("websocket",)),
    )
    groups = {"web": (apps.start("web-1"),), "agent": (apps.start("agent-1"),)}
    rig.start()
    balancer = rig.balancer()
    balancer.submit(Routing((Balancer("edge", "control", routes),), groups))
    rig.settle(balancer)
    wanted = {"Upgrade": "websocket", "Connection": "Upgrade"}
    answers = {}
    for path in ("/", "/sse", "/ws"):
        _, raw = http_client.call("GET", rig.url + path, headers=wanted)
        lines = raw.decode().splitlines()
        answers[path] = (lines[0], "Upgrade: websocket" in lines, "Connection: upgrade" in lines)
    assert answers == {
        "/": ("web-1", False, False),
        "/sse": ("agent-1", False, False),
        "/ws": ("agent-1", True, True),
    }


def test_no_backend_is_said_in_json(rig: Rig):
    rig.start()
    status, body = rig.get("/anything")
    assert (status, json.loads(body)["error"]["code"]) == (503, "no-backends")
    assert rig.get("/.labctl/other")[0] == 404


def test_backends_are_told_who_asks(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    balancer.submit(routing(apps.start("agent-1")))
    rig.settle(balancer)
    body = rig.get()[1].splitlines()
    assert f"Host: {rig.node.listen['nginx']}" in body
    assert "X-Forwarded-For: 127.0.0.1" in body
    assert any(line.startswith("X-Request-Id: ") for line in body)
    assert not any(line.startswith(("Connection:", "Upgrade:")) for line in body)


def test_the_answer_names_the_backend(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    balancer.submit(routing(apps.start("agent-7")))
    rig.settle(balancer)
    connection = http.client.HTTPConnection(rig.node.listen["nginx"], timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    assert response.getheader("X-Labctl-Backend") == "agent-7"
    connection.close()


def test_a_post_goes_past_a_dead_backend(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    dead = Backend("agent-9", "127.0.0.1:1")
    balancer.submit(routing(apps.start("agent-1"), dead))
    rig.settle(balancer)
    answers = [_posted(rig) for _ in range(6)]
    assert answers == [(200, "agent-1")] * 6


def _posted(rig: Rig) -> tuple[int, str | None]:
    """Status and backend of an answer."""
    connection = http.client.HTTPConnection(rig.node.listen["nginx"], timeout=5)
    connection.request("POST", "/", b"{}")
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.getheader("X-Labctl-Backend")


def test_an_answer_of_nginx_itself_names_nobody(rig: Rig):
    rig.start()
    assert _posted(rig) == (503, None)


def test_an_equal_wish_changes_nothing(rig: Rig, apps: Apps):
    rig.start()
    one, two = apps.start("agent-1"), apps.start("agent-2")
    balancer = rig.balancer()
    generation = balancer.submit(routing(one, two))
    rig.settle(balancer)
    before = workers_of(find_master(rig.layout.pid, rig.layout.directory) or 0)
    assert balancer.submit(routing(two, one)) == generation
    again = rig.balancer()
    assert again.submit(routing(two, one)) == generation
    assert again.poll().drained
    assert workers_of(find_master(rig.layout.pid, rig.layout.directory) or 0) == before


def test_not_drained_while_an_old_worker_has_a_request(rig: Rig, apps: Apps):
    rig.start()
    one, two = apps.start("agent-1"), apps.start("agent-2")
    balancer = rig.balancer()
    balancer.submit(routing(two))
    rig.settle(balancer)
    answers: list[tuple[int, str]] = []
    held = threading.Thread(target=lambda: answers.append(rig.get("/held")))
    held.start()
    rig.wait("the request is at its backend", lambda: _connected(two))

    balancer.submit(routing(one))
    rig.wait("confirmed", lambda: balancer.poll().confirmed)
    # A scaler that starts now knows as much.
    view = rig.balancer().poll()
    assert view.old_workers
    assert view.may_reach("agent-2")
    assert view.backends == {"agent": (one,)}

    apps.hold.set()
    held.join()
    assert answers[0][0] == 200
    assert answers[0][1].startswith("agent-2")
    assert not rig.settle(balancer).may_reach("agent-2")


def _connected(backend: Backend) -> bool:
    port = int(backend.address.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return any(c.status == "ESTABLISHED" and c.laddr and c.laddr.port == port for c in connections)


def test_old_workers_end_after_drain_s(rig: Rig, apps: Apps):
    rig.start()
    one, two = apps.start("agent-1"), apps.start("agent-2")
    balancer = rig.balancer()
    balancer.submit(routing(two, drain_s=0.3))
    rig.settle(balancer)
    held = threading.Thread(target=rig.get, args=("/held",))
    held.start()
    rig.wait("the request is at its backend", lambda: _connected(two))
    balancer.submit(routing(one, drain_s=0.3))
    assert rig.settle(balancer).answered is not None
    held.join()


def test_a_refused_configuration_changes_nothing(rig: Rig, apps: Apps):
    rig.start()
    one = apps.start("agent-1")
    balancer = rig.balancer()
    balancer.submit(routing(one))
    view = rig.settle(balancer)
    # A port that no address can be bound to: nginx finds out, not we.
    with pytest.raises(DriverFailed) as refused:
        balancer.submit(routing(one, Backend("agent-2", "no-such-host.invalid:80")))
    assert any("no-such-host.invalid" in line for line in refused.value.details)
    with pytest.raises(UsageProblem):
        balancer.submit(routing(Backend("agent-2", "127.0.0.1:80;}")))
    assert balancer.poll() == view
    assert rig.served() == "agent-1"


def test_somebody_elses_edit_is_told_and_replaced(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    wish = routing(apps.start("agent-1"))
    balancer.submit(wish)
    rig.settle(balancer)
    ours = rig.layout.conf.read_text()
    rig.layout.conf.write_text(ours.replace("least_conn;", ""))
    assert "somebody else" in (balancer.poll().problem or "")
    balancer.submit(wish)
    assert rig.layout.conf.read_text() == ours
    assert rig.settle(balancer).problem is None


def test_a_foreign_generation_may_reach_anybody(rig: Rig, apps: Apps):
    rig.start()
    balancer = rig.balancer()
    generation = balancer.submit(routing(apps.start("agent-1")))
    rig.settle(balancer)
    foreign = rig.layout.conf.read_text().replace(f'"{generation}"', '"theirs"')
    rig.layout.conf.write_text(foreign)
    assert rig.process is not None
    rig.process.send_signal(signal.SIGHUP)
    rig.wait("theirs answers", lambda: balancer.poll().answered == "theirs")
    view = balancer.poll()
    assert (view.backends, view.confirmed, view.may_reach("agent-2")) == (None, False, True)


def test_not_running_is_said_and_the_next_start_follows(rig: Rig, apps: Apps):
    one = apps.start("agent-1")
    prepare(rig.node)
    balancer = rig.balancer()
    with pytest.raises(Unreachable, match="nginx is not running"):
        balancer.submit(routing(one))
    view = balancer.poll()
    assert (view.answered, view.problem) == (None, "nginx is not running")
    rig.start()
    generation = balancer.submit(routing(one))
    assert rig.settle(balancer).answered == generation
    assert rig.served() == "agent-1"


def test_workers_without_a_master_are_told(rig: Rig, apps: Apps):
    rig.start()
    one, two = apps.start("agent-1"), apps.start("agent-2")
    balancer = rig.balancer()
    balancer.submit(routing(one, two))
    rig.settle(balancer)
    rig.kill_master()
    with pytest.raises(Unreachable):
        balancer.submit(routing(one))
    view = balancer.poll()
    assert view.problem == "nginx is not running"
    assert view.may_reach("agent-2")


def test_a_stale_pid_file_names_nobody(rig: Rig):
    rig.start()
    rig.stop()
    rig.layout.pid.write_text(f"{threading.get_native_id()}\n")
    assert find_master(rig.layout.pid, rig.layout.directory) is None
    rig.layout.pid.write_text("")
    assert find_master(rig.layout.pid, rig.layout.directory) is None


def test_a_crash_before_the_signal_is_repaired(
    rig: Rig, apps: Apps, monkeypatch: pytest.MonkeyPatch
):
    rig.start()
    one, two = apps.start("agent-1"), apps.start("agent-2")
    wish = routing(one)
    before = rig.balancer()
    before.submit(routing(two))
    rig.settle(before)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(NginxBalancer, "_reload", die)
    with pytest.raises(Killed):
        before.submit(wish)
    monkeypatch.undo()
    assert not rig.balancer().poll().confirmed
    after = rig.balancer()
    after.submit(wish)
    assert not rig.settle(after).may_reach("agent-2")


def test_prepare_keeps_the_last_good_configuration(rig: Rig, apps: Apps, tmp_path: Path):
    config = tmp_path / "node.json"
    files.write_json(config, codec.encode(rig.node))
    argv = (sys.executable, "-m", "control_node.balancer", "--config", str(config))
    assert subprocess.run(argv, check=False).returncode == 0
    rig.start()
    balancer = rig.balancer()
    generation = balancer.submit(routing(apps.start("agent-1")))
    rig.settle(balancer)
    text = rig.layout.conf.read_text()
    assert subprocess.run(argv, check=False).returncode == 0
    assert rig.layout.conf.read_text() == text
    assert balancer.poll().answered == generation

    rig.layout.conf.write_text(text.replace("least_conn", "most_conn"))
    assert subprocess.run(argv, check=False).returncode == 0
    assert "server 127.0.0.1" not in rig.layout.conf.read_text()


def test_prepare_follows_a_new_address(rig: Rig):
    assert prepare(rig.node)
    assert not prepare(rig.node)
    moved = dataclasses.replace(rig.node, listen={"nginx": "127.0.0.1:1"})
    assert prepare(moved)
    assert "listen 127.0.0.1:1;" in rig.layout.conf.read_text()


def test_prepare_may_be_killed_between_any_two_files(
    rig: Rig, apps: Apps, monkeypatch: pytest.MonkeyPatch
):
    rig.start()
    balancer = rig.balancer()
    balancer.submit(routing(apps.start("agent-1")))
    rig.settle(balancer)
    rig.stop()
    moved = dataclasses.replace(rig.node, listen={"nginx": free_address()})
    write = files.write_atomic
    for survived in range(3):
        left = [None] * survived

        def dying(*args, left=left, **options):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            write(*args, **options)

        monkeypatch.setattr(files, "write_atomic", dying)
        with pytest.raises(KeyboardInterrupt):
            prepare(moved)
        monkeypatch.undo()
    again = dataclasses.replace(rig, node=moved)
    again.start()
    assert again.get()[0] == 503
    assert again.balancer().poll().drained
    again.stop()


def test_prepare_says_what_is_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    argv = (sys.executable, "-m", "control_node.balancer", "--config", str(tmp_path / "none"))
    assert subprocess.run(argv, check=False).returncode == 2
    assert "no such file" in capfd.readouterr().err


def test_reloads_lose_no_post(rig: Rig, apps: Apps):
    rig.start()
    one, two, three = (apps.start(f"agent-{n}") for n in (1, 2, 3))
    balancer = rig.balancer()
    balancer.submit(routing(one, two, three))
    rig.settle(balancer)

    async def load() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        clients = [loop.create_task(_post(rig.node.listen["nginx"], done)) for _ in range(8)]
        for n in range(6):
            members = (one, two) if n % 2 == 0 else (one, two, three)
            await loop.run_in_executor(None, balancer.submit, routing(*members))
            await loop.run_in_executor(
                None, rig.wait, "confirmed", lambda: balancer.poll().confirmed
            )
        done.set()
        results = await asyncio.gather(*clients)
        return sum(sent for sent, _ in results), sum(lost for _, lost in results)

    sent, lost = asyncio.run(load())
    assert sent > 200  # LEAST_POSTS of each client, and those during the reloads
    assert lost == 0


async def _post(address: str, done: asyncio.Event) -> tuple[int, int]:
    """Send POSTs over one connection, and over a new one only when told `close`."""
    host, _, port = address.rpartition(":")
    sent = lost = 0
    writer = None
    # However busy the machine is, enough of them to show a loss.
    while not done.is_set() or sent < LEAST_POSTS:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(host, int(port))
            sent += 1
            writer.write(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\n\r\n{}")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            lost += b" 200 " not in head.split(b"\r\n")[0]
            close = b"connection: close" in head
        except (OSError, asyncio.IncompleteReadError):
            lost += 1
            close = True
        if close and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    return sent, lost


def test_a_reload_that_does_nothing_is_told(rig: Rig, apps: Apps):
    rig.start()
    clock = FakeClock()
    balancer = NginxBalancer.of_node(rig.node, clock)
    assert rig.process is not None
    rig.process.send_signal(signal.SIGSTOP)
    balancer.submit(routing(apps.start("agent-1")))
    clock.advance(6)
    assert "did not follow" in (balancer.poll().problem or "")
    rig.process.send_signal(signal.SIGCONT)
    rig.settle(balancer)


def test_a_lost_memory_is_made_anew(rig: Rig, apps: Apps):
    rig.start()
    one = apps.start("agent-1")
    balancer = rig.balancer()
    balancer.submit(routing(one))
    rig.settle(balancer)
    rig.layout.state.write_text("{")
    view = balancer.poll()
    assert (view.confirmed, view.backends, view.may_reach("agent-2")) == (False, None, True)
    balancer.submit(routing(one))
    assert rig.settle(balancer).backends == {"agent": (one,)}
