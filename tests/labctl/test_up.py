"""up, plan, down, destroy against a scripted run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labcore.errors import Conflict
from labcore.wire.event import Event, EventKind
from labctl.cli.main import main
from labctl.follow import Run
from tests.labctl.conftest import Labctl
from tests.labctl.double import AT, Double, end, gate, lab

RUN = [
    gate(2, "agent-1", "created", 0.2),
    gate(3, "agent-1", "healthy", 1.9),
    Event(4, AT, "demo", EventKind.PORT, "port 8080 is held by squid: 20001 is used"),
    gate(5, "agent-1", "serving", 2.0),
    end(6, "up"),
]


def test_up_tells_every_gate_and_ends_with_the_lab(labctl: Labctl, double: Double):
    double.events = RUN
    done = labctl("up", "--lab", "demo")
    assert done.code == 0, done.err
    assert done.out.startswith("demo  up  local  http://127.0.0.1:8080\n")
    lines = [line.rstrip() for line in done.err.splitlines()]
    assert lines[:6] == [
        "lab demo from what lab demo was made from; driver local, as the lab file says",
        "12:00:00 agent-1: created after 0.2 s",
        "12:00:00 agent-1: healthy after 1.9 s",
        "12:00:00 port 8080 is held by squid: 20001 is used",
        "12:00:00 agent-1: serving after 2.0 s",
        "12:00:00 demo: up",
    ]
    assert "port 8080 is held by squid: 20001 is used" in lines[6:]
    assert "agent-1: 2.0 s: created 0.2 s, healthy 1.7 s, serving 0.1 s" in lines


def test_a_gate_that_is_told_twice_counts_from_the_beginning():
    run = Run("demo", 1)
    for seconds in (8.3, 0.5):
        run.add(gate(2, "agent-1", "serving", seconds))
    assert run.steps() == {"agent-1": {"serving": 8.3}}


def test_up_as_json_prints_the_status_alone(labctl: Labctl, double: Double):
    double.events = RUN
    told = json.loads(labctl("up", "-o", "json").out)
    assert told["state"] == "up"
    assert told["waterfall"] == {"agent-1": {"created": 0.2, "healthy": 1.7, "serving": 0.1}}


def test_up_sends_the_lab_file_with_its_driver_resolved(labctl: Labctl, double: Double, here: Path):
    double.labs = []
    double.events = [end(2, "failed", "enough")]
    (here / "lab.yaml").write_text("lab: mine\n")
    done = labctl("up", "--set", "scaling.min=3")
    assert done.err.startswith("lab mine from lab.yaml; driver local, virtualbox: this version has")
    method, path, body = double.asked[0]
    assert (method, path) == ("PUT", "/api/v1/labs/mine")
    assert (body["driver"], body["scaling"]["min"]) == ("local", 3)


def test_up_names_a_new_lab_after_lab(labctl: Labctl, double: Double):
    double.events = [end(2, "failed", "enough")]
    labctl("up", "--lab", "other", "--driver", "fake")
    assert double.asked[0][:2] == ("PUT", "/api/v1/labs/other")
    assert double.asked[0][2]["driver"] == "fake"


def test_auto_without_any_driver_says_why_of_each(labctl: Labctl, double: Double):
    double.labs = []
    double.drivers = [{"name": "local", "ok": False, "reason": "no nginx was found"}]
    done = labctl("up")
    assert done.code == 5
    assert "  local: no nginx was found\n" in done.err


def test_a_wrong_lab_file_is_told_before_anything_starts(labctl: Labctl, here: Path):
    (here / "lab.yaml").write_text("lab: demo\nscaling: {max: 200}\n")
    done = labctl("up")
    assert done.code == 2
    assert "  scaling.max: got 200 (allowed: a whole number from 1 to 99)\n" in done.err
    assert not Path(os.environ["LABCTL_STATE_DIR"]).exists()


@pytest.mark.parametrize(
    ("code", "exit_code"), [("timed-out", 6), ("driver-unusable", 5), ("conflict", 4), ("x", 1)]
)
def test_the_exit_code_is_that_of_the_failure(
    labctl: Labctl, double: Double, code: str, exit_code: int
):
    data = {"code": code, "hint": "look at the log"}
    problem = Event(2, AT, "demo", EventKind.PROBLEM, "not healthy", "agent-1", data)
    double.events = [problem, end(3, "failed", "it failed")]
    done = labctl("up")
    assert done.code == exit_code
    assert done.err.endswith(
        "Error: lab 'demo': it failed\n  agent-1: not healthy\nhint: look at the log\n"
    )


def test_another_wish_is_refused_with_who_holds_the_lab(labctl: Labctl, double: Double):
    double.refusal = Conflict("lab 'demo': `up` of another lab file is still running", "wait")
    done = labctl("up")
    assert (done.code, done.out) == (4, "")
    assert "still running" in done.err


def test_a_dry_run_prints_the_plan_and_wishes_nothing(labctl: Labctl, double: Double):
    double.steps = [{"node": "agent-1", "action": "create", "reason": "it does not exist"}]
    for arguments in (("up", "--dry-run"), ("plan",)):
        done = labctl(*arguments)
        assert " ".join(done.out.splitlines()[1].split()) == "agent-1 create it does not exist"
    assert {method for method, *_ in double.asked} == {"POST"}
    double.steps = []
    assert labctl("plan").out == "lab demo: nothing to do\n"


def test_down_says_how_to_come_back(labctl: Labctl, double: Double):
    double.events = [end(2, "down")]
    done = labctl("down")
    assert done.code == 0
    assert "labctl up --lab demo" in done.err


def test_destroy_without_a_terminal_wants_yes(labctl: Labctl, double: Double):
    double.events = [end(2, "destroyed")]
    refused = labctl("destroy")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert double.asked == []
    assert labctl("destroy", "--yes").code == 0
    assert double.asked == [("DELETE", "/api/v1/labs/demo", None)]


def test_destroy_stops_an_up_that_goes_on_without_its_labctl(labctl: Labctl, double: Double):
    double.events = [end(2, "destroyed")]
    double.busy = True
    done = labctl("destroy", "--yes")
    assert done.code == 0, done.err
    assert "`up` is still running: stopping it" in done.err
    assert [(method, path) for method, path, _ in double.asked] == [
        ("DELETE", "/api/v1/labs/demo"),
        ("POST", "/api/v1/labs/demo/cancel"),
        ("DELETE", "/api/v1/labs/demo"),
    ]


def test_a_cancelled_run_ends_as_interrupted(labctl: Labctl, double: Double):
    double.events = [end(2, "cancelled")]
    done = labctl("up")
    assert done.code == 130
    assert "labctl up --lab demo" in done.err
    assert "labctl destroy --lab demo" in done.err


def begin(*arguments: str) -> subprocess.Popen[str]:
    """labctl as a process of its own, which has said its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from labctl.cli.main import run; run()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    return process


def test_the_first_ctrl_c_stops_and_says_how_to_go_on(double: Double):
    double.events = [gate(2, "agent-1", "created", 0.2)]
    process = begin("up")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    while "stopping" not in process.stderr.readline():
        pass
    double.events = [*double.events, end(3, "cancelled")]
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert ("POST", "/api/v1/labs/demo/cancel", None) in double.asked
    assert "labctl up --lab demo goes on" in said


def test_the_second_ctrl_c_leaves_at_once(double: Double):
    double.events = [gate(2, "agent-1", "created", 0.2)]
    process = begin("up")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_server_manager_that_dies_is_told(labctl: Labctl, double: Double, capsys):
    class Dying(Exception):
        pass

    def die(query: dict[str, str]) -> object:
        raise Dying

    double._events = die  # type: ignore[method-assign]
    double.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    double.labs = [lab(double.url)]
    assert main(["up"]) == 1
    assert "the same command again goes on" in capsys.readouterr().err
