"""Nobody's request is lost while the lab grows and shrinks."""

import json

from tests.e2e.harness import Hands, backends


def test_scaling_under_post_load_loses_nothing(hands: Hands):
    hands.up("t")
    load = hands.start(
        *("load", "--lab", "t", "--rps", "100", "--duration", "15s", "--method", "POST"),
        *("--path", "/echo", "-o", "json", "--fail-on", "failed>0"),
    )
    for count in ("4", "2", "5", "2"):
        hands.do("scale", "--lab", "t", count)
    stdout, stderr = load.communicate(timeout=60)
    report = json.loads(stdout)
    assert report["sent"] == report["answered"] + report["failed"]
    assert report["sent"] >= 1400
    assert (load.returncode, report["failed"]) == (0, 0), stderr
    assert backends(hands.status("t")) == ["agent-1", "agent-2"]


def test_the_autoscaler_follows_the_load(hands: Hands):
    """A busy machine may give an agent far less than it could use, so the limit is low: 4 % of a
    core. Looking every 2 s there are many chances to decide.
    """
    hands.up(
        "t",
        *("--set", "scaling.mode=auto", "--set", "scaling.cooldown_out_s=2"),
        *("--set", "scaling.cooldown_in_s=3", "--set", "groups.agent.cpus=0.1"),
        *("--set", "scaling.interval_s=2", "--set", "scaling.out.cpu_percent=40"),
    )
    load = hands.start(
        *("load", "--lab", "t", "--rps", "20", "--duration", "60s", "--method", "POST"),
        *("--path", "/work?ms=10"),
    )
    hands.wait_status("t", "a third agent", lambda s: len(backends(s)) >= 3, limit_s=60)
    load.terminate()
    load.communicate(timeout=30)
    hands.wait_status("t", "two agents again", lambda s: len(backends(s)) == 2, limit_s=60)
    assert "CPU" in hands.do("explain", "--lab", "t")
