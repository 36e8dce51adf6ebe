"""status: the shape of the contract, the screen, and what it says of what does not work."""

import dataclasses
import json
from typing import Any

from labcore.wire.lab import Desired, LabElsewhere, LabState, PowerState, Scaling, Wanted
from labcore.wire.scaler import BalancerStatus, BreakerStatus, Health, Removal
from tests.labctl.conftest import Labctl
from tests.labctl.double import AT, STATUS, Double, lab, node, server

SCREEN = """\
demo  up  local  http://127.0.0.1:8080
agent: auto, 2 of 2 serve (min 2, max 5), cooldown 12 s
  hold at 12:00:00: average CPU 81 % is above 70 %; the cooldown after the last
  change lasts 12 s more

NODE     STATE    HEALTH   ROUTED  CPU%  MEM%  BUSY  APP
control  running  healthy  -          -     -     -
agent-1  running  healthy  yes       12    40     0  http://127.0.0.1:5001
agent-2  running  healthy  yes       81    40     0  http://127.0.0.1:5002
"""


def stripped(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def status(labctl: Labctl) -> dict[str, Any]:
    done = labctl("status", "-o", "json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_the_screen_of_a_lab_that_is_up(labctl: Labctl, double: Double):
    done = labctl("status")
    assert stripped(done.out) == SCREEN
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "\x1b" not in done.out


def test_the_json_has_the_shape_of_the_contract(labctl: Labctl, double: Double):
    found = status(labctl)
    assert found["lab"] == "demo"
    assert found["driver"] == "local"
    assert found["state"] == "up"
    assert found["load_balancer"] == {
        "url": "http://127.0.0.1:8080",
        "backends": ["agent-1", "agent-2"],
    }
    assert found["server_manager"] == {"url": double.url}
    scaler = found["scaler"]
    assert (scaler["mode"], scaler["min"], scaler["max"], scaler["count"]) == ("auto", 2, 5, 2)
    assert scaler["cooldown_remaining_s"] == 12.0
    assert scaler["last_decision"]["at"] == AT
    assert scaler["last_decision"]["action"] == "hold"
    assert scaler["last_decision"]["reasons"] == ["average CPU 81 % is above 70 %"]
    assert [n["name"] for n in found["nodes"]] == ["control", "agent-1", "agent-2"]
    agent = found["nodes"][1]
    assert {key: agent[key] for key in ("group", "role", "region", "state", "health")} == {
        "group": "agent",
        "role": "agent",
        "region": "main",
        "state": "running",
        "health": "healthy",
    }
    assert (agent["in_rotation"], agent["cpu_percent"], agent["memory_percent"]) == (
        True,
        12.4,
        40.0,
    )
    assert agent["endpoints"] == {
        "app": "http://127.0.0.1:5001",
        "metrics": "http://127.0.0.1:5101",
        "ssh": None,
    }


def test_an_ssh_address_is_no_url(labctl: Labctl, double: Double):
    seen = {"host": {"ssh": "127.0.0.1:2224"}}
    double.labs = [lab(double.url, servers=(server("agent-1", endpoints=seen),))]
    assert status(labctl)["nodes"][0]["endpoints"] == {"ssh": "127.0.0.1:2224"}


def test_a_dead_scaler_is_said_and_up_is_named(labctl: Labctl, double: Double):
    double.status = None
    found = status(labctl)
    assert found["state"] == "degraded"
    assert "labctl up --lab demo" in found["problems"][0]
    assert found["scaler"]["mode"] == "auto"
    assert found["scaler"]["last_decision"] is None
    assert found["nodes"][0]["health"] == "unhealthy"
    assert "labctl up --lab demo" in " ".join(labctl("status").out.split())


def test_a_dead_nginx_is_said(labctl: Labctl, double: Double):
    broken = BalancerStatus(None, {}, "nginx does not answer")
    double.status = dataclasses.replace(STATUS, balancer=broken)
    found = status(labctl)
    assert found["state"] == "degraded"
    assert "nginx does not answer" in found["problems"][0]
    assert found["load_balancer"]["backends"] == []


def test_a_lab_that_is_down_has_no_problem(labctl: Labctl, double: Double):
    off = tuple(server(name, state=PowerState.STOPPED) for name in ("control", "agent-1"))
    double.labs = [
        lab(None, desired=Desired.DOWN, state=LabState.DOWN, servers=off, load_balancer_url=None)
    ]
    found = status(labctl)
    assert (found["state"], found["problems"]) == ("down", [])
    assert {n["state"] for n in found["nodes"]} == {"stopped"}


def test_a_failed_lab_says_why(labctl: Labctl, double: Double):
    double.labs = [lab(double.url, state=LabState.FAILED, problem="agent-1: no port")]
    assert "! agent-1: no port" in labctl("status").out
    assert status(labctl)["state"] == "failed"


def test_a_removal_and_a_draining_node_are_shown(labctl: Labctl, double: Double):
    (group,) = STATUS.groups
    removal = Removal("agent-2", "agent", "unrouted", AT, "scale in")
    double.status = dataclasses.replace(
        STATUS,
        groups=(dataclasses.replace(group, removal=removal, serving=1),),
        nodes=(node("agent-1"), node("agent-2", phase="draining", in_rotation=False)),
    )
    shown = labctl("status").out
    assert "removing agent-2: unrouted" in shown
    assert "agent-2  draining" in shown


def test_a_node_of_which_nothing_is_known_shows_no_figures(labctl: Labctl, double: Double):
    silent = node("agent-2", None, memory_percent=None, in_flight=None, health=Health.UNKNOWN)
    double.status = dataclasses.replace(STATUS, nodes=(node("agent-1"), silent))
    row = next(line for line in labctl("status").out.splitlines() if line.startswith("agent-2"))
    assert row.split() == [
        "agent-2",
        "running",
        "unknown",
        "yes",
        "-",
        "-",
        "-",
        "http://127.0.0.1:5002",
    ]


def test_all_labs_in_one_line_each(labctl: Labctl, double: Double):
    double.labs.append(lab(None, lab="other", state=LabState.DOWN, load_balancer_url=None))
    shown = labctl("status", "--all").out.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["demo", "local", "up", "http://127.0.0.1:8080"],
        ["other", "local", "down", "-"],
    ]
    assert len(json.loads(labctl("status", "--all", "-o", "json").out)["labs"]) == 2


def test_all_labs_are_those_of_others_too(labctl: Labctl, double: Double):
    double.elsewhere.append(LabElsewhere("annas", "incus", 3))
    assert labctl("status", "--all").out.splitlines()[-1].split() == [
        *("annas", "incus", "elsewhere", "-"),
    ]
    assert json.loads(labctl("status", "--all", "-o", "json").out)["labs"][-1]["nodes"] == 3


def test_where_no_lab_was_ever_made_nothing_is_started(labctl: Labctl, here):
    done = labctl("status")
    assert (done.code, done.out) == (3, "")
    assert done.err == "Error: there is no lab\nhint: labctl up makes one\n"


def test_watching_ends_when_the_lab_is_gone(labctl: Labctl, double: Double, monkeypatch):
    def gone(clock: object, seconds: float) -> None:
        double.labs = []

    monkeypatch.setattr("labcore.clock.SystemClock.sleep", gone)
    done = labctl("status", "--watch")
    assert done.code == 0
    assert done.out == ("demo up agent=2/2(auto) agent-1:serving:12% agent-2:serving:81%\n")


def test_standby_nodes_are_counted_apart(labctl: Labctl, double: Double):
    plain = double.labs[0]
    agents = plain.groups[1]
    waiting = server("agent-3", wanted=Wanted.STANDBY, state=PowerState.PAUSED)
    booting = server("agent-4", wanted=Wanted.STANDBY)
    double.labs = [
        dataclasses.replace(
            plain,
            groups=(plain.groups[0], dataclasses.replace(agents, scaling=Scaling(standby=2))),
            servers=(*plain.servers, waiting, booting),
        )
    ]
    silent = node("agent-3", None, phase="standby", in_rotation=False, health=Health.UNKNOWN)
    double.status = dataclasses.replace(STATUS, nodes=(*STATUS.nodes, silent))
    shown = labctl("status").out
    assert "2 of 2 serve (min 2, max 5), standby 1 of 2" in shown
    assert "agent-3  standby" in shown
    group = status(labctl)["groups"][0]
    assert (group["count"], group["standby"], group["standby_ready"]) == (2, 2, 1)


def test_a_breaker_is_told_with_what_ends_it(labctl: Labctl, double: Double):
    (group,) = STATUS.groups
    stopped = dataclasses.replace(group, breaker=BreakerStatus(5, 290.0, "no memory left"))
    double.status = dataclasses.replace(STATUS, groups=(stopped,))
    found = status(labctl)
    assert found["groups"][0]["breaker"] == {
        "failures": 5,
        "remaining_s": 290.0,
        "problem": "no memory left",
    }
    shown = " ".join(labctl("status").out.split())
    assert "agent: no new nodes for 5 min, as 5 boots in a row failed (no memory left)" in shown
    assert "labctl autoscale reset --lab demo" in shown


def test_groups_of_several_regions_say_where_each_is(labctl: Labctl, double: Double):
    control, agent = double.labs[0].groups
    there = dataclasses.replace(agent, name="south", region="south")
    assert agent.scaling is not None
    double.labs[0] = dataclasses.replace(double.labs[0], groups=(control, agent, there))
    shown = labctl("status").out
    assert "agent in main: auto" in shown
    assert "south in south: auto" in shown
    assert [g["region"] for g in status(labctl)["groups"]] == ["main", "south"]
