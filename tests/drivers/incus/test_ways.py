"""The documented host ports: what leads where, and that it stays so whatever is killed."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labcore.clock import SystemClock
from labcore.errors import TimedOut
from labcore.waiting import NotYet, wait_until
from server_manager.drivers.base import Forward, ServerRef
from server_manager.drivers.incus.carriers import Tunnel
from server_manager.drivers.incus.forwarder import STATE, Way, Wish, merged
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.ways import FORWARDER, Ways, leads_to, wanted

CLOCK = SystemClock()
MANY = 8 * 1024 * 1024


def instance(name: str, host_port: int, node_port: int, **changes: object) -> Instance:
    values: dict[str, object] = {
        "ref": ServerRef("demo", name, f"id-{name}"),
        "name": f"demo-{name}",
        "status": "Running",
        "member": None,
        "digest": "d",
        "address": "127.0.0.1",
        "forwards": (Forward("app", host_port, node_port),),
        "manager_port": None,
        "devices": {},
    }
    return Instance(**{**values, **changes})  # type: ignore[arg-type]


def led(*instances: Instance) -> tuple[Way, ...]:
    return wanted(leads_to(instances), "10.0.0.254")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server, server.getsockname()[1]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def forwarders(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if FORWARDER in words and str(folder) in words:
                found.append(process)
    return found


def wait_gone(folder: Path) -> None:
    def gone() -> None:
        if forwarders(folder):
            raise NotYet("it runs")

    wait_until(gone, name="the forwarder's end", limit_s=10, clock=CLOCK)


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[Ways]:
    made = Ways(tmp_path / "ways", CLOCK)
    yield made
    for lab in ("demo", "other"):
        made.follow(lab)
    wait_gone(tmp_path / "ways")


def test_only_what_is_on_and_whole_is_led_to():
    on = instance("agent-1", 5001, 5000, address="10.0.0.1")
    off = instance("agent-2", 5002, 5000, status="Stopped")
    half = instance("agent-3", 5003, 5000, digest=None)
    assert led(on, off, half) == (Way("127.0.0.1:5001", "10.0.0.1:5000"),)


def test_only_who_talks_to_the_server_manager_gets_there():
    control = instance("control", 5200, 5200, address="10.0.0.2", manager_port=3000)
    agent = instance("agent-1", 5001, 5000, address="10.0.0.1")
    last = led(control, agent)[-1]
    assert last == Way("10.0.0.254:3000", "127.0.0.1:3000", ("10.0.0.2",))
    two = {"a": Wish("", (last,)), "b": Wish("", (Way(last.listen, last.to, ("10.0.0.3",)),))}
    assert merged(two) == (Way(last.listen, last.to, ("10.0.0.2", "10.0.0.3")),)


@pytest.mark.local
def test_bytes_go_both_ways_and_an_end_is_the_end_of_one_direction(ways: Ways):
    port = free_port()
    with listening() as (server, node_port):
        ways.follow("demo", led(instance("agent-1", port, node_port)))
        with connect(port) as client:
            behind, _ = server.accept()
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_all(behind) == b"question"
            behind.sendall(b"an answer after the end of the question")
            behind.close()
            assert read_all(client) == b"an answer after the end of the question"


@pytest.mark.local
def test_who_reads_slowly_slows_who_writes(ways: Ways):
    port = free_port()
    with listening() as (server, node_port):
        ways.follow("demo", led(instance("agent-1", port, node_port)))
        with connect(port) as client:
            behind, _ = server.accept()
            client.settimeout(1.0)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 10 * MANY:
                    sent += client.send(b"x" * 65536)
            assert sent < 10 * MANY  # nobody took it, so nobody took more
            client.settimeout(20)
            done = threading.Thread(target=client.shutdown, args=(socket.SHUT_WR,))
            done.start()
            assert len(read_all(behind)) == sent
            done.join()
            behind.close()


@pytest.mark.local
def test_a_refusal_is_no_polite_end(ways: Ways):
    port = free_port()
    ways.follow("demo", led(instance("agent-1", port, free_port())))
    with pytest.raises(ConnectionResetError), connect(port) as client:  # it may be as quick as that
        client.recv(1)


@pytest.mark.local
def test_a_connection_that_breaks_on_one_side_breaks_on_the_other(ways: Ways):
    port = free_port()
    with listening() as (server, node_port):
        ways.follow("demo", led(instance("agent-1", port, node_port)))
        with connect(port) as client:
            behind, _ = server.accept()
            behind.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            behind.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)


@pytest.mark.local
def test_the_next_look_repairs_what_was_killed(ways: Ways, tmp_path: Path):
    port = free_port()
    with listening() as (_, node_port):
        lab = led(instance("agent-1", port, node_port))
        ways.follow("demo", lab)
        (process,) = forwarders(tmp_path / "ways")
        process.kill()
        process.wait(10)
        with pytest.raises(OSError, match="refused"):
            connect(port)
        ways.follow("demo", lab)
        connect(port).close()
        # Another server-manager, which knows nothing of it, finds it.
        Ways(tmp_path / "ways", CLOCK).follow("demo", lab)
        assert len(forwarders(tmp_path / "ways")) == 1


@pytest.mark.local
def test_what_is_off_is_refused_and_the_last_one_ends_it(ways: Ways, tmp_path: Path):
    one, two = free_port(), free_port()
    with listening() as (_, node_port):
        ways.follow("demo", led(instance("agent-1", one, node_port)))
        ways.follow("other", led(instance("agent-1", two, node_port)))
        assert len(forwarders(tmp_path / "ways")) == 1
        ways.follow("demo", led(instance("agent-1", one, node_port, status="Stopped")))
        with pytest.raises(ConnectionRefusedError):
            connect(one)
        connect(two).close()
        ways.follow("other")
        wait_gone(tmp_path / "ways")


@pytest.mark.local
def test_a_port_that_somebody_has_is_said(ways: Ways):
    with listening() as (_, taken):
        lab = instance("agent-1", taken, free_port())
        ways.follow("demo", led(lab))
        problem = ways.problem(lab)
        assert problem is not None
        assert f"127.0.0.1:{taken}: Address already in use" in problem

    def led_again() -> None:
        if ways.problem(lab) is not None:
            raise NotYet("it is not heard that the port is free")

    wait_until(led_again, name="the port", limit_s=10, clock=CLOCK)


@pytest.mark.local
def test_an_idle_forwarder_writes_nothing(ways: Ways, tmp_path: Path):
    with listening() as (_, node_port):
        ways.follow("demo", led(instance("agent-1", free_port(), node_port)))
        seen: set[int] = set()

        def written_more_than_twice() -> None:
            seen.add((tmp_path / "ways" / STATE).stat().st_mtime_ns)
            if len(seen) <= 2:  # what it had to say, and perhaps that it looked again
                raise NotYet("it was written once")

        with pytest.raises(TimedOut):
            wait_until(written_more_than_twice, name="writes", limit_s=0.5, clock=CLOCK)


# Listens, and ends with its standard input, as ssh with `cat` behind it does.
TUNNEL = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def answer():
    while True:
        server.accept()[0].sendall(b"from behind")
threading.Thread(target=answer, daemon=True).start()
sys.stdin.read()
"""


def tunnel(port: int) -> Tunnel:
    return Tunnel((sys.executable, "-c", TUNNEL, str(port)), (f"127.0.0.1:{port}",))


def heard(port: int) -> bytes:
    def probe() -> bytes:
        try:
            with connect(port) as client:
                return client.recv(100)
        except ConnectionRefusedError as error:
            raise NotYet("nothing listens") from error

    return wait_until(probe, name="the tunnel", limit_s=10, clock=CLOCK)


@pytest.mark.local
def test_a_tunnel_that_ends_is_begun_again_and_goes_with_what_wanted_it(ways: Ways):
    port, other = free_port(), free_port()
    ways.follow("demo", tunnels=(tunnel(port), tunnel(other)))
    assert heard(port) == b"from behind"
    for process in tunnels_at(port):
        process.kill()
        process.wait(10)
    assert heard(port) == b"from behind"
    ways.follow("demo", tunnels=(tunnel(other),))
    assert heard(other) == b"from behind"
    with pytest.raises(ConnectionRefusedError):
        connect(port)


@pytest.mark.local
def test_no_tunnel_outlives_the_forwarder(ways: Ways, tmp_path: Path):
    port = free_port()
    ways.follow("demo", tunnels=(tunnel(port),))
    assert heard(port) == b"from behind"
    (process,) = forwarders(tmp_path / "ways")
    process.kill()

    def gone() -> None:
        if tunnels_at(port):
            raise NotYet("it runs")

    wait_until(gone, name="the tunnel's end", limit_s=10, clock=CLOCK)


def tunnels_at(port: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-2:] == [TUNNEL, str(port)]:
                found.append(process)
    return found


@pytest.mark.local
def test_a_folder_that_is_gone_ends_it(tmp_path: Path):
    folder = tmp_path / "ways"
    Ways(folder, CLOCK).follow("demo", led(instance("agent-1", free_port(), 1)))
    folder.rename(tmp_path / "gone")

    wait_gone(folder)


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    parts = []
    until = time.monotonic() + 20
    while time.monotonic() < until and (part := connection.recv(1 << 20)):
        parts.append(part)
    return b"".join(parts)
