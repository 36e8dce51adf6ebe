"""VBoxManage is run with suspicion: what it prints, and what is made of it."""

import threading
from pathlib import Path

import filelock
import pytest

from labcore.clock import FakeClock
from labcore.errors import DriverFailed, DriverUnusable, TimedOut
from server_manager.drivers.virtualbox import vboxmanage
from server_manager.drivers.virtualbox.vboxmanage import (
    NoSuchMachine,
    NotReady,
    NotRunning,
    SessionLocked,
    SettingsExist,
    VBoxManage,
    without_warning,
)
from tests.ending import wait_for_end

WARNING = """WARNING: The character device /dev/vboxdrv does not exist.
\t Please install the virtualbox-dkms package and the appropriate
\t headers, most likely linux-headers-v669.

\t You will not be able to start VMs until this problem is fixed.
"""
LIST = '"base" {72bc2dd8-e36d-4f28-91b6-3ccb0cde5d94}\n'


def details(code: str, callee: str) -> str:
    """The two lines that VirtualBox puts after a message, in every language."""
    return (
        f"VBoxManage: error: Details: code {code}, component MachineWrap, interface IMachine\n"
        f'VBoxManage: error: Context: "{callee}(a->session)" at line 920 of file x.cpp\n'
    )


@pytest.fixture
def program(tmp_path: Path):
    """Makes a program that does what a shell script says."""

    def make(script: str) -> VBoxManage:
        path = tmp_path / "VBoxManage"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return VBoxManage(str(path), lock=tmp_path / "locks" / "vbox.lock", clock=FakeClock())

    return make


def printing(program, tmp_path: Path, code: int, stderr: str, stdout: str = "") -> VBoxManage:
    (tmp_path / "err").write_text(stderr)
    (tmp_path / "out").write_text(stdout)
    made: VBoxManage = program(
        f"echo x >> {tmp_path}/calls; cat {tmp_path}/out; cat {tmp_path}/err >&2; exit {code}"
    )
    return made


def test_english_is_asked_for_and_arguments_stay_apart(program):
    vbox = program('echo "$LC_ALL $LANGUAGE $# $2"')
    assert vbox.read("list", "a; b $HOME") == "C C 2 a; b $HOME\n"


def test_the_warning_of_the_start_script_is_not_an_answer(program, tmp_path):
    assert printing(program, tmp_path, 0, "", WARNING + LIST).read("list", "vms") == LIST


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        (LIST, LIST),
        (WARNING, ""),
        (WARNING + LIST, LIST),
        ("WARNING: The vboxdrv kernel module is not loaded.\n\t Do it.\n" + LIST, LIST),
        ("", ""),
        ("Value: WARNING: x\n", "Value: WARNING: x\n"),
    ],
)
def test_without_warning(printed, left):
    assert without_warning(printed) == left


def test_an_error_at_exit_code_0_is_an_error(program, tmp_path):
    vbox = printing(program, tmp_path, 0, "VBoxManage: error: Invalid NIC number 9\n")
    with pytest.raises(DriverFailed, match="modifyvm base: Invalid NIC number 9"):
        vbox.change("modifyvm", "base", "--nic9", "nat")


def test_progress_on_stderr_is_no_error(program, tmp_path):
    vbox = printing(program, tmp_path, 0, "0%...10%...100%\n", "Snapshot taken. UUID: 1\n")
    assert vbox.change("snapshot", "base", "take", "x") == "Snapshot taken. UUID: 1\n"


@pytest.mark.parametrize(
    ("stderr", "kind", "calls"),
    [
        (
            "VBoxManage: error: Could not find a registered machine named 'x'\n"
            + details("VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)", "FindMachine"),
            NoSuchMachine,
            1,
        ),
        (
            "VBoxManage: error: Keine Maschine namens 'x'\n"
            + details("VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)", "FindMachine"),
            NoSuchMachine,
            1,
        ),
        (
            "VBoxManage: error: Could not find a snapshot named 'nope'\n"
            + details("VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)", "FindSnapshot"),
            DriverFailed,
            1,
        ),
        (
            "VBoxManage: error: The machine 'x' is already locked for a session\n"
            + details("VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "LockMachine"),
            SessionLocked,
            6,
        ),
        (
            "VBoxManage: error: La machine est verrouillée\n"
            + details("VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "LaunchVMProcess"),
            SessionLocked,
            6,
        ),
        (
            "0%...10%...VBOX_E_INVALID_OBJECT_STATE\nVBoxManage: error: Clone VM failed\n"
            + details("VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "handleCloneVM"),
            DriverFailed,
            1,
        ),
        ("VBoxManage: error: Failed to create the VirtualBox object!\n", NotReady, 6),
        ("VBoxManage: error: Machine 'x' is not currently running.\n", NotRunning, 1),
        (
            "VBoxManage: error: Machine settings file '/x/x.vbox' already exists\n"
            + details("VBOX_E_FILE_ERROR (0x80bb0004)", "CreateMachine"),
            SettingsExist,
            1,
        ),
        ("VBoxManage.exe: error: Invalid RAM size: 1 MB\n", DriverFailed, 1),
        ("", DriverFailed, 1),
    ],
)
def test_what_it_says_decides_the_error_and_whether_it_is_tried_again(
    program, tmp_path, stderr, kind, calls
):
    vbox = printing(program, tmp_path, 1, stderr)
    with pytest.raises(kind) as failure:
        vbox.change("startvm", "x")
    assert type(failure.value) is kind
    assert failure.value.hint
    assert len((tmp_path / "calls").read_text().split()) == calls


def test_a_session_that_is_closed_meanwhile_is_no_failure(program, tmp_path):
    vbox = program(
        f"[ -e {tmp_path}/again ] && {{ echo done; exit 0; }}\ntouch {tmp_path}/again\n"
        "echo \"VBoxManage: error: The machine 'x' is already locked for a session\" >&2; exit 1"
    )
    assert vbox.change("modifyvm", "x") == "done\n"


def test_a_call_that_hangs_is_killed_with_its_children(program, tmp_path):
    vbox = program(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(TimedOut, match=r"list vms did not end within 0\.3 s"):
        vbox.read("list", "vms", timeout_s=0.3)
    assert not alive(int((tmp_path / "child").read_text()))


def test_a_read_that_stalls_is_begun_again(program, tmp_path, monkeypatch):
    monkeypatch.setattr(vboxmanage, "FIRST_READ_LIMIT_S", 0.3)
    vbox = program(
        f"[ -e {tmp_path}/again ] && {{ echo done; exit 0; }}\ntouch {tmp_path}/again\nsleep 60"
    )
    assert vbox.read("list", "vms") == "done\n"


def alive(pid: int) -> bool:
    try:
        wait_for_end(pid, 5)
    except TimedOut:
        return True
    return False


def test_a_program_that_is_gone(tmp_path):
    vbox = VBoxManage(str(tmp_path / "none"), lock=tmp_path / "lock", clock=FakeClock())
    with pytest.raises(DriverUnusable):
        vbox.read("list", "vms")


def test_changes_come_one_after_the_other_and_reads_are_free(program, tmp_path, monkeypatch):
    vbox = program(
        f'[ "$1" = list ] && exit 0\nmkdir {tmp_path}/only || exit 1\n'
        f"sleep 0.02\nrmdir {tmp_path}/only"
    )
    threads = [threading.Thread(target=vbox.change, args=("modifyvm",)) for _ in range(5)]
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    monkeypatch.setattr(vboxmanage, "LOCK_LIMIT_S", 0.05)
    with filelock.FileLock(tmp_path / "locks" / "vbox.lock"):
        vbox.read("list")
        vbox.change("list", exclusive=False)
        with pytest.raises(TimedOut, match="others changed VirtualBox"):
            vbox.change("modifyvm")
