"""Which lab is meant, errors at the edge, and the small parts behind the commands."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.errors import NotFound, UsageProblem
from labctl.diagnosis.check import Check, exit_code, lines
from labctl.diagnosis.remains import leftovers
from labctl.follow import Run
from labctl.reach.outside import behind
from labctl.session import choose
from labctl.ui import marks
from tests.labctl.conftest import Labctl
from tests.labctl.double import Double, end, gate, lab

ONE = (lab(),)
TWO = (lab(), lab(lab="other"))


@pytest.mark.parametrize(
    ("labs", "wanted", "file", "found"),
    [
        (ONE, None, None, "demo"),
        (ONE, "demo", "lab: other", "demo"),
        (TWO, "other", None, "other"),
        (TWO, None, "lab: other", "other"),
        (ONE, None, "]not yaml", "demo"),
        (ONE, None, "scaling: {}", "demo"),
    ],
)
def test_which_lab_is_meant(tmp_path: Path, labs, wanted, file, found):
    path = tmp_path / "lab.yaml"
    if file:
        path.write_text(file)
    assert choose(labs, wanted, path).lab == found


@pytest.mark.parametrize(
    ("labs", "wanted", "file", "kind", "told"),
    [
        ((), None, None, NotFound, "labctl up makes one"),
        (TWO, None, None, UsageProblem, "say which with --lab: demo, other"),
        (ONE, "other", None, NotFound, "labs: demo"),
        (ONE, None, "lab: other", NotFound, "labs: demo"),
        (ONE, "../x", None, UsageProblem, "use a small letter"),
    ],
)
def test_when_it_is_not_clear_which_lab_is_meant(tmp_path, labs, wanted, file, kind, told):
    path = tmp_path / "lab.yaml"
    if file:
        path.write_text(file)
    with pytest.raises(kind) as caught:
        choose(labs, wanted, path)
    assert told in caught.value.hint


def test_options_stand_before_or_behind_the_command(labctl: Labctl, double: Double):
    double.labs.append(lab(lab="other"))
    for arguments in (
        ("--lab", "other", "autoscale", "status", "-o", "json"),
        ("-o", "json", "autoscale", "status", "--lab", "other"),
        ("--lab", "demo", "autoscale", "status", "--lab", "other", "-o", "json"),
    ):
        assert json.loads(labctl(*arguments).out)["groups"]
    assert labctl("autoscale", "status").code == 2


def test_every_option_can_be_set_in_the_environment(labctl: Labctl, double: Double, monkeypatch):
    monkeypatch.setenv("LABCTL_LAB", "nobody")
    assert labctl("status").code == 3
    assert labctl("status", "--lab", "demo").code == 0
    monkeypatch.setenv("LABCTL_LAB", "demo")
    monkeypatch.setenv("LABCTL_OUTPUT", "json")
    monkeypatch.setenv("LABCTL_STATUS_EVERYTHING", "1")
    assert "labs" in json.loads(labctl("status").out)
    monkeypatch.setenv("LABCTL_STATUS_OUTPUT", "table")
    assert labctl("status").out.startswith("LAB")


def test_an_error_goes_to_stderr_alone_also_as_json(labctl: Labctl, double: Double):
    done = labctl("status", "--lab", "none", "-o", "json")
    assert (done.code, done.out) == (3, "")
    assert json.loads(done.err)["error"]["code"] == "not-found"


def test_a_traceback_only_on_request(labctl: Labctl, double: Double, monkeypatch):
    assert "Traceback" not in labctl("status", "--lab", "none").err
    assert "Traceback" in labctl("status", "--lab", "none", "-v").err

    def broken(*_: object) -> None:
        raise KeyError("fault")

    monkeypatch.setattr("labctl.watching.gather", broken)
    done = labctl("status")
    assert done.code == 1
    assert done.err == (
        "Error: unexpected KeyError: 'fault'\nhint: this is a fault in labctl: -v shows where\n"
    )
    assert "in broken" in labctl("-v", "status").err


def test_a_wrong_format_is_refused(labctl: Labctl):
    done = labctl("status", "-o", "yaml")
    assert done.code == 2
    assert "table, json" in done.err


def process(*arguments: str, **streams: object) -> subprocess.Popen[str]:
    program = "from labctl.cli.main import run; run()"
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True, **streams
    )


def test_ctrl_c_ends_a_command_with_130(double: Double):
    double.events = [end(2, "up")]
    follower = process("events", "--follow", stdout=subprocess.PIPE)
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=30)
    assert (follower.returncode, said) == (130, "interrupted\n")


def test_a_reader_that_leaves_early_gets_no_complaint(double: Double):
    reading, writing = os.pipe()
    os.close(reading)
    writer = process("status", stdout=writing)
    os.close(writing)
    _, said = writer.communicate(timeout=30)
    assert said == ""
    assert writer.returncode in (0, 1)


def test_a_run_knows_its_steps_and_its_end():
    run = Run("demo", 1)
    for event in (gate(2, "a", "created", 1.0), gate(3, "b", "created", 0.1)):
        run.add(event)
    run.add(gate(4, "a", "healthy", 1.5))
    assert run.steps() == {"a": {"created": 1.0, "healthy": 0.5}, "b": {"created": 0.1}}
    assert (run.state, run.seen) == ("", 4)
    run.add(dataclasses.replace(end(5, "up"), data={"run": 9, "state": "up"}))
    assert run.ended is None
    run.add(end(6, "up"))
    assert run.state == "up"
    run.check()


LINES = st.lists(st.sampled_from("ab"), max_size=8)


@given(LINES, LINES)
def test_a_followed_log_loses_no_line_and_repeats_none(old: list[str], new: list[str]):
    assert behind(old, [*old, *new]) == new


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_a_long_log_is_followed_through_a_window(before: int, more: int, window: int):
    log = [str(number) for number in range(before + more)]
    followed = behind(log[:before][-window:], log[-window:])
    assert followed == log[before:][-window:]


def test_a_log_that_began_anew_is_told_whole():
    assert behind(["a", "b"], ["c", "d"]) == ["c", "d"]


@given(st.lists(st.floats(-50, 200), max_size=40), st.booleans())
def test_a_sparkline_has_a_mark_for_each_of_the_last_values(values: list[float], fancy: bool):
    drawn = marks.sparkline(values, 20, fancy=fancy)
    assert len(drawn) == min(len(values), 20)
    assert fancy or drawn.isascii()


def test_a_sparkline_rises_with_its_values():
    assert marks.sparkline([0, 50, 100], 9, fancy=True) == "▁▅█"
    assert marks.sparkline([0, 50, 100], 9, fancy=False) == "_+@"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ({"driver local": "ok", "python": "ok"}, 0),
        ({"driver local": "ok", "driver virtualbox": "bad"}, 0),
        ({"driver local": "bad", "python": "ok"}, 5),
        ({"driver local": "ok", "disk": "bad"}, 1),
        ({"driver local": "ok", "port": "warning"}, 0),
    ],
)
def test_the_exit_code_of_doctor(verdicts, code: int):
    assert exit_code([Check(name, verdict, "") for name, verdict in verdicts.items()]) == code


def test_doctor_says_how_to_mend():
    assert list(lines([Check("disk", "bad", "full", "empty it")])) == [
        "bad      disk: full",
        "         fix: empty it",
    ]


def test_doctor_on_this_machine(labctl: Labctl, here: Path):
    done = labctl("doctor", "-o", "json")
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert checks["python"]["verdict"] == "ok"
    assert checks["nginx"]["verdict"] == "ok"
    assert checks["driver local"]["verdict"] == "ok"
    assert done.code == 0


def test_leftovers_are_processes_of_labs_that_are_gone(tmp_path: Path):
    labs = tmp_path / "labs"
    processes = [
        (1, f"python -m agent.app --config {labs}/gone/nodes/agent-1/node.json"),
        (2, f"python -m agent.app --config {labs}/demo/nodes/agent-1/node.json"),
        (3, f"vim {labs}x/gone/file"),
        (4, "python -m http.server"),
    ]
    assert leftovers(labs, ["demo"], processes) == [(1, "gone")]


def test_a_state_directory_that_cannot_be_is_told(labctl: Labctl, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "file"))
    done = labctl("up", "--lab", "demo")
    assert done.code == 2
    assert done.err.startswith(f"Error: {tmp_path / 'file'} cannot be the state directory: ")
    assert "LABCTL_STATE_DIR" in done.err
