"""Any one process may die at any moment: the lab heals by itself or by `up`."""

import signal
from typing import Any

import psutil
import pytest

from tests.e2e.harness import Hands, answering_nodes, backends

BOTH = ["agent-1", "agent-2"]


def only_where_nodes_are_processes(hands: Hands) -> None:
    if hands.driver != "local":
        pytest.skip("systemd does it there: tests/guest")


def whole(status: dict[str, Any]) -> bool:
    healthy = [n["name"] for n in status["nodes"] if n["health"] == "healthy" and n["in_rotation"]]
    return backends(status) == BOTH and sorted(healthy) == BOTH


@pytest.mark.parametrize(
    ("node", "program"),
    [
        ("control", "nginx"),
        ("control", "control_node.scaler"),
        ("agent-1", "agent.app"),
        ("agent-1", "agent.metrics"),
        ("agent-2", "supervisor"),
    ],
)
def test_a_killed_process_heals_by_itself(one_lab: Hands, node: str, program: str):
    only_where_nodes_are_processes(one_lab)
    one_lab.wait_status("one", "a whole lab before", whole)
    victim = one_lab.wait_service(node, program)
    victim.kill()
    psutil.wait_procs([victim], timeout=10)
    one_lab.wait_service(node, program)
    status = one_lab.wait_status("one", f"healing of {program}", whole)
    assert answering_nodes(status["load_balancer"]["url"]) == set(BOTH)


def test_a_killed_agent_is_a_fault_and_heals(one_lab: Hands):
    one_lab.do("kill", "agent-2", "--lab", "one")
    status = one_lab.wait_status("one", "healing of agent-2", whole)
    assert status["scaler"]["count"] == 2


def test_a_dead_control_node_is_said_and_up_repairs_it(one_lab: Hands):
    one_lab.do("kill", "control", "--lab", "one")
    one_lab.do("up", "--lab", "one")
    assert whole(one_lab.status("one"))


def test_a_dead_server_manager_comes_back_with_the_next_command(one_lab: Hands):
    one_lab.service_manager().kill()
    assert whole(one_lab.status("one"))
    one_lab.do("scale", "--lab", "one", "3")
    one_lab.do("scale", "--lab", "one", "2")
    assert backends(one_lab.status("one")) == BOTH


@pytest.mark.parametrize("victim", ["labctl", "server-manager"])
@pytest.mark.parametrize("after_lines", [1, 3, 6])
def test_kill_9_during_up_then_up_converges(hands: Hands, victim: str, after_lines: int):
    up = hands.start("up", "--lab", "t", "--driver", hands.driver)
    assert up.stderr is not None
    for _ in range(after_lines):
        up.stderr.readline()
    (up if victim == "labctl" else hands.service_manager()).kill()
    up.communicate(timeout=60)
    hands.do("up", "--lab", "t", "--driver", hands.driver)
    assert backends(hands.status("t")) == BOTH


def test_ctrl_c_during_up_says_how_to_go_on(hands: Hands):
    up = hands.start("up", "--lab", "t", "--driver", hands.driver)
    assert up.stderr is not None
    up.stderr.readline()
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "labctl up" in said
    assert "labctl destroy" in said
    hands.do("up", "--lab", "t", "--driver", hands.driver)
    assert backends(hands.status("t")) == BOTH


def test_a_half_made_lab_can_be_destroyed(hands: Hands):
    up = hands.start("up", "--lab", "t", "--driver", hands.driver)
    assert up.stderr is not None
    up.stderr.readline()
    up.kill()
    up.communicate(timeout=60)
    hands.do("destroy", "--lab", "t", "--yes")
    assert not (hands.state / "labs" / "t").exists()
