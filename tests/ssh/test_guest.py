"""SSH into a real guest: its login user, its journal, signals, and what happens when it goes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from labcore.errors import Conflict, LabError, TimedOut, Unauthorized, Unreachable
from labctl.reach.journal import journal_command, shown
from labctl.ssh.connection import Connection, connect
from labctl.ssh.copy import get, put
from labctl.ssh.endpoint import LOGIN_USER, Endpoint, Limits, Pinned
from server_manager.guest.network import GuestNetwork
from server_manager.guest.seed import make_seed
from server_manager.ssh_keys import make_pair
from tests.guest import specs
from tests.guest.containers import Container, incus, until, why_not
from tests.ssh.sshd import write_key

pytestmark = [
    pytest.mark.incus,
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason or "incus answers"),
]
QUICK = Limits(connect_s=2, banner_s=10, handshake_s=30, auth_s=30, idle_s=30)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, Endpoint]]:
    folder = tmp_path_factory.mktemp("keys")
    keys = specs.Keys()
    write_key(folder / "user", keys.user)
    container = Container.named("ssh")
    try:
        container.launch()
        address = container.address()
        container.provision()
        gateway = container.gateway()
        network = GuestNetwork(gateway, (), (f"{gateway}/32",))
        container.apply(make_seed(specs.agent(keys), specs.CAPABILITIES, network))
        pinned = Pinned(keys.host("agent-1").public)
        user, key = LOGIN_USER, folder / "user"
        yield container, Endpoint("agent-1", address, 22, user, key, pinned, QUICK)
    finally:
        container.delete()


@pytest.fixture
def connection(guest: tuple[Container, Endpoint]) -> Iterator[Connection]:
    with connect(guest[1]) as made:
        yield made


def test_the_login_user_may_become_root(connection: Connection) -> None:
    assert connection.run(["id", "-un"]).stdout == "lab\n"
    assert connection.run(["sudo", "-n", "id", "-un"]).stdout == "root\n"


def test_only_the_key_and_the_user_of_the_lab_are_let_in(
    guest: tuple[Container, Endpoint], tmp_path: Path
) -> None:
    endpoint = guest[1]
    write_key(tmp_path / "other", make_pair("other"))
    for change in ({"key_file": tmp_path / "other"}, {"user": "root"}, {"user": "labctl"}):
        with pytest.raises(Unauthorized):
            connect(dataclasses.replace(endpoint, **change))
    with pytest.raises(Conflict, match="another host key"):
        connect(dataclasses.replace(endpoint, trust=Pinned(make_pair("x").public)))


def test_the_journal_of_its_services(connection: Connection) -> None:
    connection.run(["sudo", "-n", "systemctl", "restart", "labctl-metrics"]).check("restart")
    for service in ("metrics", None):
        result = connection.run(journal_command(service, 20, follow=False)).check("journal")
        lines = [shown(raw.encode(), with_name=True) for raw in result.stdout.splitlines()]
        assert any("metrics | " in line and "tarted" in line for line in lines), lines


def test_what_takes_too_long_is_ended_there_too(
    guest: tuple[Container, Endpoint], connection: Connection
) -> None:
    with pytest.raises(TimedOut):
        connection.run(["sleep", "4711"], limit_s=0.5)
    until("its end", lambda: guest[0].code("pgrep -f '[s]leep 4711'") == 1)


def test_ctrl_c_reaches_the_command(
    guest: tuple[Container, Endpoint], connection: Connection
) -> None:
    def take(stream: int, data: bytes) -> None:
        raise KeyboardInterrupt

    script = "trap 'touch /tmp/told; exit' INT; echo ready; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        connection.attach(script, take)
    until("the signal", lambda: guest[0].code("test -e /tmp/told") == 0)


def test_copies_both_ways(connection: Connection, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_bytes(b"x" * 10_000_000)
    assert put(connection, tree, "") == "tree"
    assert connection.run(["stat", "-c", "%U %s", "tree/sub/file"]).stdout == "lab 10000000\n"
    get(connection, "tree", tmp_path / "back")
    assert (tmp_path / "back/sub/file").read_bytes() == b"x" * 10_000_000
    with pytest.raises(LabError, match=r"copying .* to agent-1:/etc/"):
        put(connection, tree, "/etc/")


def test_a_guest_that_freezes_and_goes_is_told(guest: tuple[Container, Endpoint]) -> None:
    container, endpoint = guest
    frozen = dataclasses.replace(endpoint, limits=dataclasses.replace(QUICK, banner_s=1))
    incus("pause", container.name)
    try:
        with pytest.raises(TimedOut, match=r"agent-1: .* SSH banner"):
            connect(frozen)
    finally:
        incus("resume", container.name)

    def stop(stdin: BinaryIO) -> None:
        container.stop()

    with connect(endpoint) as connection, pytest.raises((Unreachable, TimedOut)):
        connection.run(["sleep", "60"], feed=stop, limit_s=40)
    with pytest.raises((Unreachable, TimedOut)):
        connect(endpoint)
