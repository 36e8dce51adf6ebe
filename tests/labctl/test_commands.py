"""The other commands, against the double."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labcore.codec import encode
from labcore.wire.event import Event, EventKind
from labcore.wire.scaler import Action
from labctl import resize
from tests.labctl.conftest import Labctl
from tests.labctl.double import AT, DECISION, Double, lab

EXPLAINED = """\
Decision 7 at 12:00:00: group agent stays at 2 nodes, though policy threshold
  asks for a change.
  It saw:
    agent-1: CPU 80.9 %, memory 40 %, 3 requests in flight
    agent-2: told nothing, or nothing new
  Taken together:
    average CPU 80.9 %; 12 s of cooldown left
  The rule says:
    Average CPU 81 % is above 70 %.
  But:
    The cooldown after the last change lasts 12 s more.
"""


def test_scale_waits_and_says_that_the_mode_is_manual(labctl: Labctl, double: Double):
    done = labctl("scale", "3")
    assert done.code == 0, done.err
    assert done.out == "agent: 3 serve; mode is manual now\n"
    assert done.err == "labctl autoscale on lets the policy decide again\n"
    assert double.asked == [("POST", "/scale", {"count": 3, "group": "agent"})]


def test_scale_as_json(labctl: Labctl, double: Double):
    found = json.loads(labctl("scale", "3", "-o", "json").out)
    assert found == {"lab": "demo", "group": "agent", "count": 3, "mode": "manual"}


@pytest.mark.parametrize(("count", "limit"), [("99", "maximum is 5"), ("1", "minimum is 2")])
def test_scale_beyond_a_limit_names_it(labctl: Labctl, double: Double, count: str, limit: str):
    done = labctl("scale", count)
    assert done.code == 4
    assert limit in done.err
    assert double.asked == []


def test_scale_that_does_not_come_to_an_end_tells_what_was_seen(labctl: Labctl, double: Double):
    double.scales = False
    done = labctl("scale", "3", "--timeout", "0.1")
    assert done.code == 6
    assert "2 of 3 serve" in done.err


@pytest.mark.parametrize(("boot_limit_s", "waits_s"), [(60.0, 300.0), (900.0, 1800.0)])
def test_scale_waits_as_long_as_a_boot_may_take(
    labctl: Labctl,
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
    boot_limit_s: float,
    waits_s: float,
):
    waited: list[float] = []
    monkeypatch.setattr(resize, "_wait", lambda *args: waited.append(args[4]))
    double.labs = [dataclasses.replace(double.labs[0], boot_limit_s=boot_limit_s)]
    assert labctl("scale", "3").code == 0
    assert waited == [waits_s]


def test_scale_without_a_scaler_fails(labctl: Labctl, double: Double):
    double.status = None
    done = labctl("scale", "3")
    assert done.code == 1
    assert "labctl" in done.err
    double.labs = [lab(None)]
    assert labctl("scale", "3").code == 4


def test_scale_of_a_group_that_is_not_scaled(labctl: Labctl, double: Double):
    done = labctl("scale", "3", "--group", "control")
    assert done.code == 3
    assert "it scales: agent" in done.err


def test_autoscale_on_off_and_status(labctl: Labctl, double: Double):
    assert labctl("autoscale", "off").out == (
        "agent: manual, policy threshold, 2 nodes (min 2, max 5)\n"
    )
    assert json.loads(labctl("autoscale", "on", "-o", "json").out)["groups"][0]["mode"] == "auto"
    assert [body["mode"] for _, path, body in double.asked] == ["manual", "auto"]
    asked = len(double.asked)
    assert labctl("autoscale", "status").out.startswith("agent: auto")
    assert len(double.asked) == asked
    assert labctl("autoscale", "maybe").code == 2


def test_autoscale_reset_makes_nodes_again_after_failed_boots(labctl: Labctl, double: Double):
    done = labctl("autoscale", "reset")
    assert done.code == 0, done.err
    assert double.asked == [("POST", "/reset", {"group": "agent"})]


def test_explain_tells_what_was_seen_the_rule_and_the_veto(labctl: Labctl, double: Double):
    assert labctl("explain").out == EXPLAINED
    assert labctl("explain", "7").out == EXPLAINED
    assert json.loads(labctl("explain", "-o", "json").out) == [encode(DECISION)]


@pytest.mark.parametrize(
    ("action", "count", "told"),
    [
        (Action.OUT, 3, "group agent grows to 3 nodes"),
        (Action.IN, 1, "group agent shrinks to 1 node"),
    ],
)
def test_explain_says_what_became_of_it(
    labctl: Labctl, double: Double, action: Action, count: int, told: str
):
    double.decisions = (dataclasses.replace(DECISION, action=action, count=count),)
    head = " ".join(labctl("explain").out.split())
    assert f"12:00:00: {told}, as policy threshold asks for; 2 are there. It saw:" in head


def test_explain_of_what_was_never_decided(labctl: Labctl, double: Double):
    done = labctl("explain", "9")
    assert done.code == 3
    assert "known: 7 to 7" in done.err
    assert labctl("explain", "why").code == 2
    double.decisions = ()
    assert "none was made yet" in labctl("explain").err


def test_explain_reads_the_events_when_the_scaler_is_dead(labctl: Labctl, double: Double):
    double.status = None
    double.events = [Event(3, AT, "demo", EventKind.DECISION, "hold", None, encode(DECISION))]
    assert labctl("explain").out == EXPLAINED


def test_events_in_order_and_only_the_last(labctl: Labctl, double: Double):
    double.events = [
        Event(seq, AT, "demo", EventKind.MEMBERSHIP, f"agent-{seq} serves") for seq in range(1, 6)
    ]
    assert labctl("events", "-n", "2").out == (
        "12:00:00 membership agent-4 serves\n12:00:00 membership agent-5 serves\n"
    )
    lines = labctl("events", "-o", "json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_long_event_is_wrapped(labctl: Labctl, double: Double):
    double.events = [Event(1, AT, "demo", EventKind.LAB, "many words " * 20)]
    lines = labctl("events").out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("start", "agent-3"), ("power", {"action": "on", "server": "demo/agent-3"})),
        (("stop", "agent-3"), ("power", {"action": "off", "server": "demo/agent-3"})),
        (("stop", "agent-3", "--force"), ("demo/agent-3/kill", None)),
        (("kill", "agent-3"), ("demo/agent-3/kill", None)),
        (("pause", "agent-3"), ("demo/agent-3/pause", None)),
        (("resume", "agent-3"), ("demo/agent-3/resume", None)),
    ],
)
def test_commands_about_one_node(
    labctl: Labctl, double: Double, arguments: tuple[str, ...], asked: tuple[str, object]
):
    done = labctl(*arguments)
    assert done.code == 0, done.err
    assert "agent-3" in done.out
    path, body = asked
    assert double.asked == [("POST", f"/api/v1/servers/{path}", body)]


def test_logs(labctl: Labctl, double: Double):
    assert labctl("logs", "agent-1", "-n", "2").out == "two\nthree\n"


def test_exec_runs_in_the_folder_of_the_node(double: Double, here: Path):
    folder = Path(os.environ["LABCTL_STATE_DIR"]) / "labs/demo/nodes/agent-1"
    folder.mkdir(parents=True)
    script = 'pwd; echo "$LABCTL_NODE" "$@"; exit 7'
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from labctl.cli.main import run; run()"),
            *("exec", "agent-1", "--", "sh", "-c", script, "sh", "-x", "--lab"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"{folder}\nagent-1 -x --lab\n"


def test_exec_tells_a_signal_as_shells_do(labctl: Labctl, double: Double, here: Path):
    (Path(os.environ["LABCTL_STATE_DIR"]) / "labs/demo/nodes/agent-1").mkdir(parents=True)
    assert labctl("exec", "agent-1", "--", "sh", "-c", "kill -9 $$").code == 128 + 9


def test_a_dead_control_node_is_for_up_to_repair(labctl: Labctl, double: Double):
    assert "labctl up --lab demo" in labctl("kill", "control").out
    assert "labctl up --lab demo" in labctl("stop", "control", "--force").out
    assert "--watch" in labctl("kill", "agent-1").out


def test_the_token_as_json(labctl: Labctl, double: Double):
    token = labctl("server", "token").out.strip()
    assert token
    assert json.loads(labctl("server", "token", "-o", "json").out) == {"token": token}


def test_exec_on_what_is_not_there(labctl: Labctl, double: Double):
    done = labctl("exec", "agent-9", "--", "true")
    assert done.code == 3
    assert "agent-1" in done.err
    assert labctl("exec", "agent-1", "--", "true").code == 3  # it has no folder
    double.drivers = []
    assert labctl("exec", "agent-1", "--", "true").code == 5


def test_api_adds_the_token_and_tells_errors(labctl: Labctl, double: Double):
    assert json.loads(labctl("api", "GET", "/labs").out)["labs"][0]["lab"] == "demo"
    assert json.loads(labctl("api", "GET", "/api/v1/labs/demo").out)["lab"] == "demo"
    assert json.loads(labctl("api", "get", "/").out)["status"] == "running"
    assert labctl("api", "GET", "/labs/none").code == 3
    body = '{"action": "on", "server": "agent-3"}'
    assert labctl("api", "POST", "/servers/power", body).code == 0
    assert double.asked == [("POST", "/api/v1/servers/power", json.loads(body))]
    assert labctl("api", "POST", "/servers/power", "{").code == 2
    assert labctl("api", "GET", "labs").code == 2


def test_server_status_and_token(labctl: Labctl, double: Double):
    assert labctl("server", "status").out == f"running at {double.url}\n"
    assert labctl("server", "token").out == "admin-token\n"
    assert labctl("server", "start", "-o", "json").out.count(double.url) == 1


def test_server_status_where_none_runs(labctl: Labctl, here: Path):
    assert json.loads(labctl("server", "status", "-o", "json").out) == {
        "running": False,
        "url": None,
    }
    assert labctl("server", "stop").err == "no server-manager runs\n"


def test_init_writes_a_file_that_is_valid_and_never_writes_over_one(labctl: Labctl, here: Path):
    assert labctl("init", "--lab", "mine").code == 0
    text = (here / "lab.yaml").read_text()
    assert "lab: mine" in text
    assert 8 <= len(text.splitlines()) <= 14
    assert labctl("validate").out == "lab.yaml: lab 'mine' is valid\n"
    (here / "lab.yaml").write_text(text.replace("# ", "", 99).replace("A lab:", "# A lab:"))
    assert labctl("init").code == 4
    assert labctl("init", "--force").code == 0


def test_every_line_that_init_comments_out_is_right(labctl: Labctl, here: Path):
    labctl("init")
    lines = (here / "lab.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("# driver"))
    shown = [line.removeprefix("# ") for line in lines[start:]]
    (here / "lab.yaml").write_text("\n".join(["lab: demo", *shown]))
    assert labctl("validate").code == 0


def test_validate_tells_every_problem(labctl: Labctl, here: Path):
    (here / "x.yaml").write_text("lab: X\nscaling: {min: 9}\n")
    done = labctl("validate", "x.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[:2] == [
        "Error: x.yaml: 2 problems",
        "  lab: got 'X' (allowed: a small letter, then up to 30 small letters, digits or hyphens)",
    ]


def test_validate_checks_the_settings_of_the_policy(labctl: Labctl, here: Path):
    (here / "lab.yaml").write_text(
        "lab: d\nscaling: {policy: target, options: {target_percent: 700}}\n"
    )
    done = labctl("validate")
    assert done.code == 2
    assert "target_percent" in done.err


def test_schema_and_blueprints(labctl: Labctl):
    assert json.loads(labctl("schema").out)["title"] == "LabFile"
    assert labctl("blueprints").out.startswith("autoscale ")
    assert "lab: demo" in labctl("blueprints", "autoscale").out
    assert labctl("blueprints", "nothing").code == 3
