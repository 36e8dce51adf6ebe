"""exec, ssh, logs, cp, ssh-config: against a real sshd, and where nodes are folders."""

import dataclasses
import getpass
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from labctl.cli.main import main
from labctl.cli.ssh import on_node
from labctl.reach.journal import shown
from labctl.ssh import endpoint
from server_manager.paths import StatePaths
from server_manager.ssh_keys import make_pair
from tests.labctl import double as doubles
from tests.labctl.conftest import Done, Labctl, double, here, labctl
from tests.labctl.double import Double
from tests.ssh.sshd import Sshd

__all__ = ["double", "here", "labctl"]
JOURNAL = [
    {"MESSAGE": "ready", "_SYSTEMD_UNIT": "labctl-app.service"},
    {"MESSAGE": "Started.", "_SYSTEMD_UNIT": "init.scope", "UNIT": "labctl-metrics.service"},
    {"MESSAGE": [104, 255], "_SYSTEMD_UNIT": "labctl-app.service"},
]


@pytest.fixture
def guest(server: Sshd, double: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Lab demo of a driver whose nodes are reached by SSH; agent-1 is our sshd."""
    address = f"127.0.0.1:{server.port}"
    nodes = {
        "agent-1": doubles.server("agent-1", endpoints={"host": {"ssh": address}}),
        "agent-2": doubles.server("agent-2", state=PowerState.STOPPED, endpoints={}),
    }
    lab = doubles.lab(double.url, driver="faraway", servers=tuple(nodes.values()))
    double.labs = [lab]
    double.drivers = [{"name": "faraway", "ok": True, "capabilities": {"access": "ssh"}}]
    monkeypatch.setattr(endpoint, "LOGIN_USER", getpass.getuser())
    keys = StatePaths.find().ssh("demo")
    keys.mkdir(parents=True)
    shutil.copy(server.key_file, keys / "id_ed25519")
    for name in nodes:
        (keys / f"host_{name}.pub").write_text(server.host_key.public)
    return double


@pytest.fixture
def journal(server: Sshd) -> Iterator[Path]:
    """The folder of a stand-in for sudo that prints a journal."""
    (server.folder / "journal").write_text("".join(json.dumps(one) + "\n" for one in JOURNAL))
    yield server.folder
    (server.folder / "refuse").unlink(missing_ok=True)


def run(*arguments: str, stdin: str | None = None) -> Done:
    """labctl in a process of its own: its streams are what matters."""
    # The login user is that of the test, as in `guest`.
    program = (
        "import getpass; from labctl.ssh import endpoint; endpoint.LOGIN_USER = getpass.getuser();"
        "from labctl.cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.local
def test_exec_keeps_words_streams_and_exit_code(guest: Double) -> None:
    script = 'echo "$LABCTL_NODE" "$1"; echo err >&2; cat; exit 7'
    done = run("exec", "agent-1", "--", "sh", "-c", script, "sh", "a  b", stdin="in\n")
    assert done == Done(7, "agent-1 a  b\nin\n", "err\n")


@pytest.mark.local
def test_exec_of_what_is_not_there(guest: Double) -> None:
    assert run("exec", "agent-1", "--", "no-such-program").code == 127
    done = run("exec", "agent-2", "--", "true")
    assert done.code == 4
    assert "agent-2 is stopped" in done.err
    assert "labctl start agent-2" in done.err


@pytest.mark.local
def test_exec_and_another_host_key(guest: Double, labctl: Labctl) -> None:
    other = make_pair("other").public
    (StatePaths.find().ssh("demo") / "host_agent-1.pub").write_text(other)
    done = labctl("exec", "agent-1", "--", "true")
    assert done.code == 4
    assert "another host key" in done.err
    done = labctl("ssh", "agent-1", "--", "true")
    assert done.code == 255


@pytest.mark.local
def test_ssh_hands_a_line_to_a_shell_there(guest: Double) -> None:
    done = run("ssh", "agent-1", "--", "echo $HOME | tr / _; exit 3")
    assert done.code == 3
    assert done.out.strip() == str(Path.home()).replace("/", "_")
    assert run("ssh", "agent-1", stdin="echo $((6*7))\nexit 5\n").code == 5


@pytest.mark.local
def test_ssh_without_an_ssh_program(guest: Double, labctl: Labctl, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("ssh", "agent-1", "--", "echo a | tr a b; exit 3").code == 3
    done = labctl("ssh", "agent-1")
    assert done.code == 5
    assert "labctl exec agent-1" in done.err


@pytest.mark.local
def test_ssh_reads_and_writes_nothing_in_the_home_folder(
    guest: Double, tmp_path: Path, monkeypatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  Port 1\n")
    monkeypatch.setenv("HOME", str(home))
    assert run("ssh", "agent-1", "--", "true").code == 0
    assert [p.name for p in home.rglob("*")] == [".ssh", "config"]


@pytest.mark.local
def test_the_second_ssh_uses_the_connection_of_the_first(guest: Double, server: Sshd) -> None:
    before = server.log().count("Accepted publickey")
    for _ in range(3):
        assert run("ssh", "agent-1", "--", "true").code == 0
    assert server.log().count("Accepted publickey") == before + 1
    sockets = StatePaths.find().ssh_sockets
    assert len(list(sockets.iterdir())) == 1
    from labctl.ssh.program import hang_up

    hang_up(StatePaths.find(), "other")
    assert len(list(sockets.iterdir())) == 1
    hang_up(StatePaths.find(), "demo")

    def none_left() -> None:  # ssh tells the program that asked before it ends
        if left := list(sockets.iterdir()):
            raise NotYet(str(left))

    wait_until(none_left, name="the connection ends", limit_s=5, clock=SystemClock())


@pytest.mark.local
def test_the_configuration_serves_other_programs(guest: Double, labctl: Labctl) -> None:
    done = labctl("ssh-config", "-o", "json")
    told = json.loads(done.out)
    assert [node["name"] for node in told["nodes"]] == ["agent-1"]
    scp = ["scp", "-F", told["file"], __file__, "agent-1:" + os.path.realpath("copy")]
    subprocess.run(scp, check=True)
    assert Path("copy").read_text() == Path(__file__).read_text()
    assert labctl("ssh-config").out == Path(told["file"]).read_text()
    assert Path(told["file"]).stat().st_mode & 0o777 == 0o600


@pytest.mark.local
def test_cp_both_ways(guest: Double, labctl: Labctl, here: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    Path("file").write_text("text")
    done = labctl("cp", "file", f"agent-1:{there}")
    assert done == Done(0, f"copied to agent-1:{there}/file\n", "")
    done = labctl("cp", f"agent-1:{there}", "back", "-o", "json")
    assert json.loads(done.out) == {"from": f"agent-1:{there}", "to": "back"}
    assert Path("back/file").read_text() == "text"
    assert labctl("cp", f"agent-1:{there}/none", ".").code == 3


@pytest.mark.local
def test_logs_are_those_of_the_journal(guest: Double, labctl: Labctl, journal: Path) -> None:
    assert labctl("logs", "agent-1").out.splitlines() == [
        "app | ready",
        "metrics | Started.",
        "app | h\N{REPLACEMENT CHARACTER}",
    ]
    assert labctl("logs", "agent-1", "app", "-n", "7").out.splitlines()[0] == "ready"
    asked = (journal / "asked").read_text()
    assert asked.startswith("-n journalctl ")
    assert "--unit labctl-app.service --lines 7" in asked
    done = labctl("logs", "agent-1", "nginx")
    assert done.code == 3
    assert "metrics, app" in done.err


@pytest.mark.local
def test_logs_that_cannot_be_read(guest: Double, labctl: Labctl, journal: Path) -> None:
    (journal / "refuse").touch()
    done = labctl("logs", "agent-1")
    assert done.code == 1
    assert "sudo: no" in done.err


@pytest.mark.local
def test_logs_of_a_node_that_lets_nobody_in_are_its_console(guest: Double, labctl: Labctl) -> None:
    done = labctl("logs", "agent-2", "-n", "2")
    assert done.out == "two\nthree\n"
    assert "agent-2 is stopped" in done.err
    assert labctl("logs", "agent-1", "console", "-n", "1").out == "three\n"
    assert labctl("logs", "agent-2", "app").code == 4


@pytest.mark.local
def test_following_logs_ends_with_ctrl_c(guest: Double, journal: Path, monkeypatch) -> None:
    def result(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labctl.ui.plain.result", result)
    assert main(["logs", "agent-1", "--follow"]) == 130


@pytest.fixture
def node_folder(double: Double, here: Path) -> Path:
    folder = StatePaths.find().lab("demo") / "nodes" / "agent-1"
    folder.mkdir(parents=True)
    return folder


def test_cp_where_nodes_are_folders(labctl: Labctl, node_folder: Path) -> None:
    Path("tree/sub").mkdir(parents=True)
    Path("tree/sub/file").write_text("text")
    assert labctl("cp", "tree", "agent-1:").code == 0
    assert (node_folder / "tree/sub/file").read_text() == "text"
    assert labctl("cp", "tree/sub/file", "agent-1:new/").code == 0
    assert labctl("cp", "agent-1:new/file", "back").out == "copied to back\n"
    assert Path("back").read_text() == "text"
    assert labctl("cp", "none", "agent-1:").code == 3
    assert labctl("cp", "agent-1:none", ".").code == 3


@pytest.mark.parametrize("arguments", [("a", "b"), ("agent-1:a", "agent-2:b"), ("agent-1:", ".")])
def test_cp_needs_one_side_on_a_node(
    labctl: Labctl, node_folder: Path, arguments: tuple[str, str]
) -> None:
    assert labctl("cp", *arguments).code == 2


def test_ssh_where_nodes_are_folders(node_folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    done = run("ssh", "agent-1", "--", "pwd | tr a-z A-Z")
    assert done == Done(0, f"{node_folder}\n".upper(), "")
    done = run("ssh", "agent-1", stdin="pwd\nexit 4\n")
    assert (done.code, done.out) == (4, f"{node_folder}\n")
    assert "processes of this machine" in done.err


def test_no_ssh_configuration_where_nodes_are_folders(labctl: Labctl, double: Double) -> None:
    done = labctl("ssh-config")
    assert done.code == 4
    assert "labctl exec" in done.err


@pytest.mark.parametrize(
    ("text", "windows", "meant"),
    [
        ("agent-1:/a:b", False, ("agent-1", "/a:b")),
        ("agent-1:", False, ("agent-1", "")),
        ("./a:b", False, None),
        ("/a:b", False, None),
        ("A:b", False, None),
        ("c:\\file", True, None),
        ("c:\\file", False, ("c", "\\file")),
        ("plain", False, None),
    ],
)
def test_what_is_on_a_node(text: str, windows: bool, meant: tuple[str, str] | None) -> None:
    assert on_node(text, windows=windows) == meant


def test_a_line_that_is_no_json_is_shown_as_it_is() -> None:
    assert shown(b"-- No entries --\n", with_name=True) == "-- No entries --"
    assert shown(b"[]\n", with_name=True) == "[]"
    assert shown(b'{"MESSAGE": null}\n', with_name=False) == ""


def test_the_configuration_is_what_ssh_understands(
    guest: Double, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a b%c"
    shutil.copytree(os.environ["LABCTL_STATE_DIR"], root)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(root))
    file = json.loads(labctl("ssh-config", "-o", "json").out)["file"]
    told = subprocess.run(
        ["ssh", "-G", "-F", file, "agent-1"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in (
        f"identityfile {root}/labs/demo/ssh/id_ed25519".replace("%", "%%"),
        "stricthostkeychecking true",
        "hostkeyalias agent-1",
        "identitiesonly yes",
        "preferredauthentications publickey",
        "forwardagent no",
    ):
        assert line in told
    other = subprocess.run(
        ["ssh", "-G", "-F", file, "elsewhere"], capture_output=True, text=True, check=True
    ).stdout
    assert "stricthostkeychecking true" not in other


def test_a_long_state_directory_goes_without_multiplexing(
    guest: Double, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ControlPath" in labctl("ssh-config").out
    root = tmp_path / ("x" * 90)
    shutil.copytree(os.environ["LABCTL_STATE_DIR"], root)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(root))
    assert "ControlPath" not in labctl("ssh-config").out


def test_a_node_without_a_host_key_is_told(guest: Double, labctl: Labctl) -> None:
    (StatePaths.find().ssh("demo") / "host_agent-1.pub").unlink()
    done = labctl("exec", "agent-1", "--", "true")
    assert done.code == 3
    assert "no host key was made for demo/agent-1" in done.err


def test_no_way_into_a_node(double: Double, labctl: Labctl) -> None:
    double.labs = [dataclasses.replace(double.labs[0], driver="unheard-of")]
    assert labctl("exec", "agent-1", "--", "true").code == 5
