"""The process itself: started on demand, one per state directory, killed, ended."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labcore.clock import FakeClock, SystemClock
from labcore.commands import run, spawn_detached
from labcore.errors import Conflict, LabError
from labcore.files import write_json
from labcore.manager_client import ManagerClient
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event
from server_manager import starter
from server_manager.__main__ import listen
from server_manager.executors import Threads
from server_manager.idle import Idle
from server_manager.labspec import from_file
from server_manager.paths import StatePaths
from tests.ending import wait_for_end
from tests.server_manager.parts import make_parts

CLOCK = SystemClock()
SCRIPT = Path(__file__).with_name("process.py")


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[StatePaths]:
    made = StatePaths(tmp_path / "state")
    yield made
    starter.stop(made, CLOCK)


def some_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ensure(paths: StatePaths, port: int | None = None) -> ManagerClient:
    return starter.ensure_running(paths, CLOCK, port=port or some_port())


def pid_of(paths: StatePaths) -> int:
    running = starter.status(paths)
    assert running is not None
    return running.pid


class TestStarting:
    def test_on_demand_once_and_small(self, paths):
        assert starter.status(paths) is None
        assert starter.stop(paths, CLOCK) is False
        port = some_port()
        client = ensure(paths, port)
        assert client.url == f"http://127.0.0.1:{port}"
        assert client.labs() == ()
        assert ensure(paths).url == client.url
        assert psutil.Process(pid_of(paths)).memory_info().rss < 80 * 2**20
        assert starter.stop(paths, CLOCK) is True
        assert starter.status(paths) is None
        assert "ended" in paths.log.read_text()

    def test_several_at_once_start_one(self, paths):
        urls: list[str] = []
        tasks = [lambda: urls.append(ensure(paths).url) for _ in range(4)]
        assert Threads().gather(tasks) == ()
        assert len(urls) == 4
        assert len(set(urls)) == 1

    def test_a_killed_one_is_noticed_and_replaced(self, paths):
        ensure(paths)
        first = pid_of(paths)
        os.kill(first, signal.SIGKILL)
        wait_for_end(first)
        assert starter.status(paths) is None
        assert ensure(paths).is_alive()
        assert pid_of(paths) != first

    def test_another_process_with_the_number_of_a_dead_one_is_not_it(self, paths):
        paths.make()
        said = {"pid": os.getpid(), "created": 1.0, "url": "http://127.0.0.1:9"}
        write_json(paths.manager, said)
        assert starter.status(paths) is None

    def test_a_second_one_by_hand_is_refused(self, paths):
        ensure(paths)
        environment = {"LABCTL_STATE_DIR": str(paths.root)}
        argv = (sys.executable, "-I", "-m", "server_manager")
        ended = run(argv, timeout_s=30, env=environment)
        assert ended.returncode == Conflict.exit_code
        assert "runs already" in ended.stderr
        assert ensure(paths).is_alive()

    def test_its_port_is_fixed_once_labs_exist(self, paths):
        with socket.socket() as holding:
            holding.bind(("127.0.0.1", 0))
            holding.listen()
            port = int(holding.getsockname()[1])
            assert ensure(paths, port).url != f"http://127.0.0.1:{port}"  # none exists: it moves
            starter.stop(paths, CLOCK)
            parts = make_parts(paths.root)
            parts.core.labs.add(from_file({"lab": "demo", "driver": "fake"}, "demo"), "now")
            parts.core.settings.manager_port = port
            parts.core.database.close()
            with pytest.raises(Conflict, match=f"port {port} .* is held by .*pid {os.getpid()}"):
                ensure(paths)

    def test_a_port_that_somebody_took_in_between_is_passed_over(self, tmp_path):
        parts = make_parts(tmp_path)  # for which every port looks free
        with socket.socket() as quicker:
            quicker.bind(("127.0.0.1", 0))
            quicker.listen()
            port = int(quicker.getsockname()[1])
            server = listen(parts.core, lambda environ, start_response: [], port)
        assert int(server.effective_port) not in (0, port)
        server.close()

    def test_one_that_cannot_start_says_why(self, paths):
        paths.make()
        paths.database.write_text("this is not a database, and long enough to be told from one")
        with pytest.raises(LabError, match="could not start") as caught:
            ensure(paths)
        assert "file is not a database" in caught.value.details[-1]


class TestAKilledOne:
    def test_finishes_what_it_had_begun_when_it_is_back(self, paths):
        """Killed between the journal and the end of a driver call, in the middle of `up`."""
        client = self.start(paths, "agent-2")
        number = client.put_lab("demo", {"driver": "fake"})
        self.event(client, number, "agent-2: create begun")
        self.event(client, number, "agent-1: start done")
        ids = self.ids(paths)
        pid = pid_of(paths)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)

        client = self.start(paths)
        end = self.event(client, number, "demo: up")
        assert end.data == {"run": number, "state": "up"}
        lab = client.lab("demo")
        assert {s.name: s.state for s in lab.servers} == {
            "control": "running",
            "agent-1": "running",
            "agent-2": "running",
        }
        assert self.ids(paths) == ids

    def test_ends_by_itself_when_the_last_lab_is_gone_and_everybody_knows(self, paths):
        client = self.start(paths)
        self.event(client, client.put_lab("demo", {"driver": "fake"}), "demo: up")
        pid = pid_of(paths)
        end = self.event(client, client.destroy("demo"), "demo: destroyed")
        assert end.data["state"] == "destroyed"
        wait_for_end(pid)
        assert starter.status(paths) is None
        assert list(paths.labs.iterdir()) == []

    def start(self, paths: StatePaths, *stuck: str) -> ManagerClient:
        paths.make()
        environment = {"LABCTL_STATE_DIR": str(paths.root)}
        argv = (sys.executable, str(SCRIPT), str(some_port()), *stuck)
        spawn_detached(argv, log=paths.log, env=environment)

        def probe() -> None:
            if starter.status(paths) is None:
                raise NotYet

        wait_until(probe, name="the process", limit_s=30, clock=CLOCK)
        return ensure(paths)

    def event(self, client: ManagerClient, after: int, message: str) -> Event:
        def probe() -> Event:
            for event in client.events("demo", after=after):
                if event.message == message:
                    return event
            raise NotYet

        return wait_until(probe, name=message, limit_s=30, clock=CLOCK)

    def ids(self, paths: StatePaths) -> dict[str, str]:
        import sqlite3

        with sqlite3.connect(paths.database) as connection:
            found = dict(connection.execute("SELECT name, id FROM servers").fetchall())
        connection.close()
        return found


class TestIdle:
    def test_ends_quietly_after_the_last_lab(self, tmp_path):
        clock = FakeClock()
        parts = make_parts(tmp_path, clock=clock)
        parts.up()
        idle = Idle(parts.core, parts.manager.runs, parts.manager.images)
        clock.advance(10_000)
        assert not idle.is_over()
        parts.manager.destroy("demo")
        assert not idle.is_over()
        clock.advance(1.9)
        assert not idle.is_over()
        clock.advance(0.2)
        assert idle.is_over()
        parts.core.database.close()

    def test_a_follower_that_never_stops_does_not_keep_it(self, tmp_path):
        clock = FakeClock()
        parts = make_parts(tmp_path, clock=clock)
        parts.up()
        idle = Idle(parts.core, parts.manager.runs, parts.manager.images)
        ask = idle.watch(lambda environ, start: [])
        parts.manager.destroy("demo")
        seconds = 0
        while not idle.is_over():
            clock.advance(1.0)
            ask({}, print)
            seconds += 1
        assert seconds == 11
        parts.core.database.close()

    def test_one_that_was_started_for_nothing_ends_after_a_while(self, tmp_path):
        clock = FakeClock()
        parts = make_parts(tmp_path, clock=clock)
        idle = Idle(parts.core, parts.manager.runs, parts.manager.images)
        clock.advance(599)
        assert not idle.is_over()
        clock.advance(700)
        assert idle.is_over()
        parts.core.database.close()
