"""A standby node: booted and paused beside the group, resumed to serve, gone with the lab."""

from labcore.waiting import NotYet, wait_until
from tests.e2e.harness import CLOCK, Hands, answering_nodes, backends

STANDBY = ("--set", "scaling.standby=1", "--set", "scaling.max=3")


def phases(status):
    return {n["name"]: n["phase"] for n in status["nodes"] if n["role"] != "control"}


def ready(hands: Hands, node: str):
    """The status once that node is the standby that is ready."""
    return hands.wait_status(
        "t",
        f"{node} to stand by",
        lambda s: phases(s).get(node) == "standby" and s["groups"][0]["standby_ready"] == 1,
    )


def test_a_standby_node_is_resumed_refilled_and_leaves_nothing(hands: Hands):
    hands.up("t", *STANDBY)
    status = ready(hands, "agent-3")
    url = status["load_balancer"]["url"]
    assert (status["state"], status["scaler"]["count"]) == ("up", 2)
    assert answering_nodes(url) == {"agent-1", "agent-2"}

    refused = hands.try_("stop", "--lab", "t", "agent-3")
    assert refused.returncode == 4
    assert "standby" in refused.stderr

    hands.do("scale", "--lab", "t", "3")
    assert backends(hands.status("t")) == ["agent-1", "agent-2", "agent-3"]
    assert "agent-3" in answering_nodes(url)
    ready(hands, "agent-4")  # beyond the maximum
    said = hands.do("events", "--lab", "t")
    assert "agent-3 stands by, paused" in said
    assert "agent-3: resume done" in said

    hands.do("kill", "--lab", "t", "agent-4")  # a dead one is booted again
    ready(hands, "agent-4")

    hands.do("down", "--lab", "t")
    hands.do("up", "--lab", "t")
    ready(hands, "agent-4")

    hands.do("destroy", "--lab", "t", "--yes")
    assert not (hands.state / "labs" / "t").exists()

    def nothing_left():
        if left := hands.marked_processes():
            raise NotYet(str([p.cmdline() for p in left]))

    wait_until(nothing_left, name="end of every process", limit_s=15, clock=CLOCK)
