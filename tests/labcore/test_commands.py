"""Programs are run to their end or killed with all their children."""

import os
import sys

import psutil
import pytest

from labcore.clock import SystemClock
from labcore.commands import run, spawn_detached
from labcore.errors import DriverFailed, DriverUnusable, TimedOut
from labcore.waiting import NotYet, wait_until
from tests.ending import wait_for_end


def test_gives_back_both_streams_and_the_exit_code():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    result = run([sys.executable, "-c", code], timeout_s=20)
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_check_raises_with_the_last_lines():
    with pytest.raises(DriverFailed) as caught:
        run(["sh", "-c", "echo why >&2; exit 1"], timeout_s=20).check(
            "starting the VM", "try again"
        )
    assert caught.value.details == ("why",)
    assert caught.value.message == "starting the VM: `sh` ended with 1"


def test_never_goes_through_a_shell():
    assert run(["echo", "$HOME; ls"], timeout_s=20).stdout == "$HOME; ls\n"


def test_large_output_on_both_streams_does_not_block():
    code = "import sys; [print('x' * 999, file=f) for f in (sys.stdout, sys.stderr)] * 1"
    many = f"{code}\nfor _ in range(500):\n print('x' * 999); print('y' * 999, file=sys.stderr)"
    assert run([sys.executable, "-c", many], timeout_s=20).returncode == 0


def test_a_missing_program_is_named():
    with pytest.raises(DriverUnusable, match="cannot run 'no-such-program'"):
        run(["no-such-program"], timeout_s=1)


def test_a_program_of_another_machine_is_named(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF but not one of ours")
    program.chmod(0o755)
    with pytest.raises(DriverUnusable, match=f"cannot run '{program}'"):
        run([str(program)], timeout_s=1)


def test_a_time_out_kills_the_grandchildren_too(tmp_path):
    pid_file = tmp_path / "pid"
    with pytest.raises(TimedOut):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout_s=0.5)

    wait_for_end(int(pid_file.read_text()), 5)


def test_where_there_are_no_groups_the_tree_is_killed(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "killpg")
    pid_file = tmp_path / "pid"
    with pytest.raises(TimedOut):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout_s=0.5)

    wait_for_end(int(pid_file.read_text()), 5)


def test_a_detached_program_has_its_own_session_and_is_reaped(tmp_path):
    log = tmp_path / "log"
    pid = spawn_detached(["sh", "-c", "echo $MARK; sleep 0.2"], log=log, env={"MARK": "ours"})
    assert os.getsid(pid) == pid != os.getsid(0)

    def reaped():
        if psutil.pid_exists(pid):
            raise NotYet("still there")

    wait_until(reaped, name="end of the detached program", limit_s=5, clock=SystemClock())
    assert log.read_text() == "ours\n"
