"""Up, load, scale out, scale in, down: what the README promises, with real processes."""

import json

import pytest

from labcore.http_client import call, call_json
from labcore.waiting import NotYet, wait_until
from tests.e2e.harness import CLOCK, Hands, answering_nodes, backends


def test_the_main_job_from_up_to_nothing_left(hands: Hands):
    status = hands.up("t")
    assert status["state"] == "up"
    assert [n["name"] for n in status["nodes"]] == ["control", "agent-1", "agent-2"]
    assert answering_nodes(status["load_balancer"]["url"]) == {"agent-1", "agent-2"}

    hands.do("scale", "--lab", "t", "3")
    status = hands.status("t")
    assert backends(status) == ["agent-1", "agent-2", "agent-3"]
    assert status["scaler"]["mode"] == "manual"
    assert "agent-3" in answering_nodes(status["load_balancer"]["url"])

    hands.do("scale", "--lab", "t", "2")
    assert backends(hands.status("t")) == ["agent-1", "agent-2"]

    hands.do("down", "--lab", "t")
    assert hands.status("t")["state"] == "down"
    hands.do("up", "--lab", "t")
    assert backends(hands.status("t")) == ["agent-1", "agent-2"]

    hands.do("destroy", "--lab", "t", "--yes")
    assert not (hands.state / "labs" / "t").exists()

    def nothing_left():
        if left := hands.marked_processes():
            raise NotYet(str([p.cmdline() for p in left]))

    wait_until(nothing_left, name="end of every process", limit_s=15, clock=CLOCK)


def test_status_has_the_shape_of_the_contract(hands: Hands):
    status = hands.up("t")
    assert {"lab", "driver", "state", "load_balancer", "server_manager", "scaler"} <= set(status)
    assert {"mode", "min", "max", "count", "cooldown_remaining_s", "last_decision"} <= set(
        status["scaler"]
    )
    agent = next(n for n in status["nodes"] if n["name"] == "agent-1")
    assert {
        "name",
        "group",
        "role",
        "region",
        "state",
        "health",
        "in_rotation",
        "cpu_percent",
        "memory_percent",
        "endpoints",
    } <= set(agent)
    assert (agent["endpoints"]["ssh"] is None) == (hands.driver == "local")
    metrics = call_json("GET", agent["endpoints"]["metrics"] + "/metrics")
    assert isinstance(metrics, dict)
    assert {"cpu", "memory", "status", "node", "seq", "uptime_s", "in_flight"} <= set(metrics)
    assert (metrics["node"], metrics["status"]) == ("agent-1", "active")


def test_the_power_api_brings_an_agent_into_rotation(hands: Hands):
    status = hands.up("t")
    url = status["server_manager"]["url"] + "/api/v1/servers/power"
    on = {"action": "on", "server": "agent-3"}
    assert call("POST", url, on)[0] == 401
    answer = call_json("POST", url, on, token=hands.token(), timeout_s=30)
    assert answer == {"status": "Server 'agent-3' turned on successfully."}
    hands.wait_status("t", "agent-3 in rotation", lambda s: "agent-3" in backends(s))
    answer = call_json("POST", url, {**on, "action": "off"}, token=hands.token(), timeout_s=60)
    assert answer == {"status": "Server 'agent-3' turned off successfully."}
    assert backends(hands.status("t")) == ["agent-1", "agent-2"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"action": "explode", "server": "agent-1"}, 400),
        ({"action": "on"}, 400),
        ({"server": "agent-1"}, 400),
        ({"action": "on", "server": "agent-77"}, 404),
        ({"action": "on", "server": "../etc"}, 404),
        ({"action": "on", "server": "--help"}, 404),
        ({"action": "on", "server": "agent-1", "more": 1}, 400),
        (["on"], 400),
        ({"action": "on", "server": "x" * 10_000_000}, 413),
    ],
)
def test_bad_power_requests_get_a_reason(one_lab: Hands, body: object, expected: int):
    url = one_lab.status("one")["server_manager"]["url"] + "/api/v1/servers/power"
    status, raw = call("POST", url, body, token=one_lab.token())
    assert status == expected
    if expected != 413:
        error = json.loads(raw)["error"]
        assert error["code"]
        assert "Traceback" not in error["message"]


def test_scale_beyond_the_maximum_names_it(one_lab: Hands):
    refused = one_lab.try_("scale", "--lab", "one", "99")
    assert refused.returncode != 0
    assert "5" in refused.stderr


def test_screens_are_plain_where_nobody_looks(one_lab: Hands):
    for command in (["status"], ["events"], ["explain"], ["plan"], ["up"]):
        done = one_lab.try_(*command, "--lab", "one", COLUMNS="80", NO_COLOR="1")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert max(map(len, done.stdout.splitlines() or [""])) <= 80


def test_two_labs_stand_side_by_side(one_lab: Hands):
    second = one_lab.up("u")
    first = one_lab.status("one")
    assert first["load_balancer"]["url"] != second["load_balancer"]["url"]
    assert answering_nodes(second["load_balancer"]["url"]) == {"agent-1", "agent-2"}
    one_lab.do("destroy", "--lab", "u", "--yes")
    assert answering_nodes(first["load_balancer"]["url"]) == {"agent-1", "agent-2"}
