"""The SSH connection against a real sshd."""

import dataclasses
import getpass
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from labcore.clock import SystemClock
from labcore.errors import Conflict, LabError, TimedOut, Unauthorized, Unreachable, UsageProblem
from labcore.waiting import NotYet, wait_until
from labctl.ssh.connection import Connection, connect, connect_when_up
from labctl.ssh.endpoint import Learned, Limits, Pinned
from server_manager.ssh_keys import make_pair
from tests.ssh import sshd
from tests.ssh.sshd import Sshd

pytestmark = pytest.mark.local
needs_signals = pytest.mark.skipif(
    getpass.getuser() == "root", reason="sshd passes no signal on to sessions of root"
)


@pytest.fixture
def connection(server: Sshd) -> Iterator[Connection]:
    with connect(server.endpoint()) as made:
        yield made


def test_a_command_gives_back_both_streams_and_its_exit_code(connection: Connection) -> None:
    result = connection.run("echo out; echo err >&2; exit 7")
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_each_word_stays_one_word(connection: Connection) -> None:
    words = ["a b", "$HOME", "'", "*", "", "ü"]
    result = connection.run(["printf", "%s\\n", *words])
    assert result.stdout.splitlines() == words


def test_lines_are_told_while_it_runs(connection: Connection) -> None:
    told: list[str] = []
    gate = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        gate.set()

    def answer(stdin: BinaryIO) -> None:
        # Only sent once the first line was told: it cannot have been told at the end.
        assert gate.wait(20)
        stdin.write(b"go\n")

    result = connection.run(
        "echo first; read word; echo $word; printf rest", tell=tell, feed=answer
    )
    assert result.returncode == 0
    assert told == ["first", "go", "rest"]


def test_much_of_both_streams_comes_whole(connection: Connection) -> None:
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"
    result = connection.run(script, limit_s=60)
    assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)


def test_what_is_fed_comes_whole(connection: Connection) -> None:
    result = connection.run("wc -c", feed=lambda stdin: _write(stdin, b"x" * 5_000_000))
    assert result.stdout.strip() == "5000000"


def test_a_command_that_never_listens_does_not_hang(connection: Connection) -> None:
    result = connection.run("exit 3", feed=lambda stdin: _write(stdin, b"x" * 5_000_000))
    assert result.returncode == 3


@needs_signals
def test_a_command_that_takes_too_long_is_ended(connection: Connection, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with pytest.raises(TimedOut, match=r"agent-1: .*did not end within 0\.5 s"):
        connection.run(f"echo $$ > {mark}; sleep 100", limit_s=0.5)

    def probe() -> None:
        result = connection.run(["kill", "-0", mark.read_text().strip()])
        if result.returncode == 0:
            raise NotYet("it runs")

    wait_until(probe, name="its end", limit_s=20, clock=SystemClock())


def test_a_command_that_takes_too_long_is_told(connection: Connection) -> None:
    with pytest.raises(TimedOut, match=r"agent-1: `sleep 5` did not end within 0\.5 s"):
        connection.run(["sleep", "5"], limit_s=0.5)


def test_what_stays_in_the_background_does_not_hold_us(connection: Connection) -> None:
    result = connection.run("sleep 60 & echo $!", limit_s=30)
    connection.run(["kill", result.stdout.strip()])
    assert result.returncode == 0


def test_death_by_a_signal_is_an_exit_code(connection: Connection) -> None:
    assert connection.run("kill -9 $$").returncode == 255


def test_a_key_that_nobody_knows_is_not_let_in(server: Sshd, tmp_path: Path) -> None:
    sshd.write_key(tmp_path / "other", make_pair("other"))
    with pytest.raises(Unauthorized, match=r"agent-1: 127\.0\.0\.1:.* does not let .* in"):
        connect(server.endpoint(key_file=tmp_path / "other"))


def test_no_key_of_the_user_is_tried(server: Sshd, tmp_path: Path, monkeypatch) -> None:
    home = tmp_path / ".ssh"
    home.mkdir(mode=0o700)
    (home / "id_ed25519").write_bytes(server.key_file.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    sshd.write_key(tmp_path / "other", make_pair("other"))
    with pytest.raises(Unauthorized):
        connect(server.endpoint(key_file=tmp_path / "other"))


def test_another_host_key_is_refused_before_anything_is_sent(server: Sshd, caplog) -> None:
    wrong = Pinned(make_pair("x").public)
    before = server.log().count("Accepted")
    with pytest.raises(Conflict, match="another host key") as refused:
        connect(server.endpoint(trust=wrong))
    assert len(refused.value.details) == 2
    assert "SHA256:" in refused.value.details[0]
    assert server.log().count("Accepted") == before
    assert caplog.text == ""


def test_a_missing_and_a_broken_key_file_are_named(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot read the key"):
        connect(server.endpoint(key_file=tmp_path / "none"))
    (tmp_path / "bad").write_text("nonsense")
    with pytest.raises(LabError, match="cannot read the key"):
        connect(server.endpoint(key_file=tmp_path / "bad"))


def test_nobody_listens(server: Sshd) -> None:
    with pytest.raises(Unreachable, match="no connection to"):
        connect(server.endpoint(port=sshd.free_port()))


def test_a_banner_that_never_comes(server: Sshd) -> None:
    with Listener(None) as port, pytest.raises(TimedOut, match=r"SSH banner .*within 0\.3 s"):
        connect(server.endpoint(port=port, limits=Limits(banner_s=0.3)))


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_somebody_else_answers(server: Sshd, said: bytes) -> None:
    with Listener(said) as port, pytest.raises(Unreachable, match="SSH banner"):
        connect(server.endpoint(port=port, limits=Limits(banner_s=5)))


def test_a_key_exchange_that_never_comes(server: Sshd) -> None:
    limits = Limits(banner_s=5, handshake_s=0.5)
    silent = Listener(b"SSH-2.0-x\r\n", keep=True)
    with silent as port, pytest.raises(TimedOut, match="key exchange"):
        connect(server.endpoint(port=port, limits=limits))


def test_a_host_key_is_learned_once_and_pinned_then(server: Sshd, tmp_path: Path) -> None:
    learned = Learned(tmp_path / "deep" / "host.pub")
    connect(server.endpoint(trust=learned)).close()
    assert learned.file.read_text().split() == server.host_key.public.split()[:2]
    connect(server.endpoint(trust=learned)).close()
    learned.file.write_text(make_pair("x").public)
    with pytest.raises(Conflict, match="another host key"):
        connect(server.endpoint(trust=learned))


def test_nothing_is_learned_from_another_machine(server: Sshd, tmp_path: Path) -> None:
    learned = Learned(tmp_path / "host.pub")
    with pytest.raises(UsageProblem, match="is not known"):
        connect(dataclasses.replace(server.endpoint(trust=learned), host="192.0.2.1"))


def test_it_waits_for_a_machine_that_boots(server: Sshd, tmp_path: Path) -> None:
    port = sshd.free_port()
    late: list[Sshd] = []
    key = make_pair("late")
    timer = threading.Timer(0.5, lambda: late.append(sshd.start(tmp_path, host_key=key, port=port)))
    timer.start()
    endpoint = server.endpoint(port=port, key_file=tmp_path / "user", trust=Pinned(key.public))
    timer.join()
    try:
        connect_when_up(endpoint, 20, SystemClock()).close()
    finally:
        late[0].end()


def test_the_wait_ends_with_what_was_seen(server: Sshd) -> None:
    endpoint = server.endpoint(port=sshd.free_port())
    with pytest.raises(TimedOut, match=r"agent-1 to answer SSH.*last seen: .*no connection"):
        connect_when_up(endpoint, 0.3, SystemClock())


def test_a_connection_that_breaks_is_told(tmp_path: Path) -> None:
    if sshd.PROGRAM is None:
        pytest.skip("there is no sshd")
    server = sshd.start(tmp_path)
    try:
        with connect(server.endpoint()) as connection:
            # The shell's grandparent or parent is the sshd of this connection.
            with pytest.raises(Unreachable, match="broke off"):
                connection.run("kill -9 $PPID; sleep 20", limit_s=30)
            with pytest.raises(Unreachable, match="broke off"):
                connection.run("true")
    finally:
        server.end()


@needs_signals
def test_ctrl_c_reaches_the_command(connection: Connection, tmp_path: Path) -> None:
    mark = tmp_path / "interrupted"

    def take(stream: int, data: bytes) -> None:
        raise KeyboardInterrupt

    script = f"trap 'echo yes > {mark}; exit' INT; echo ready; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        connection.attach(script, take)

    def probe() -> None:
        if not mark.exists():
            raise NotYet("not told")

    wait_until(probe, name="the signal", limit_s=20, clock=SystemClock())


def _write(stdin: BinaryIO, data: bytes) -> None:
    stdin.write(data)


class Listener:
    """Somebody who accepts and says `said`, then hangs up unless `said` is None or `keep`."""

    def __init__(self, said: bytes | None, *, keep: bool = False) -> None:
        self._said, self._keep = said, keep
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        for one in self._open:
            one.close()

    def _serve(self) -> None:
        try:
            one, _ = self._socket.accept()
        except OSError:
            return
        self._open.append(one)
        if self._said is None:
            return
        one.sendall(self._said)
        if not self._keep:
            one.shutdown(socket.SHUT_WR)
