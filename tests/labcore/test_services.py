"""A service and a node make a unit; names that reach a command line are names."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.clock import FakeClock, parse_rfc3339, rfc3339
from labcore.errors import UsageProblem
from labcore.names import check_name, is_name, node_name
from labcore.services import APP, METRICS, NGINX, Runtime, make_unit, service, with_command
from labcore.wire.node import NodeConfig

NODE = NodeConfig(
    lab="demo",
    node="agent-1",
    group="agent",
    role="agent",
    region="local",
    cpus=0.25,
    memory_mib=512,
    scope="tree",
    directory="/srv/agent-1",
    listen={"app": "127.0.0.1:5001", "metrics": "127.0.0.1:5101", "nginx": "0.0.0.0:80"},
    nginx="/opt/nginx",
)
RUNTIME = Runtime(module=("python3", "-I", "-m"), config="/srv/agent-1/node.json")


def test_a_module_of_ours_is_run_by_the_runtime():
    unit = make_unit(METRICS, NODE, RUNTIME)
    assert unit.argv == ("python3", "-I", "-m", "agent.metrics", "--config", RUNTIME.config)
    assert unit.directory == "/srv/agent-1/metrics"
    assert unit.env["LABCTL_NODE"] == "agent-1"


def test_a_foreign_program_gets_its_placeholders():
    unit = make_unit(NGINX, NODE, RUNTIME)
    assert unit.argv[:3] == ("/opt/nginx", "-p", "/srv/agent-1/nginx")
    assert unit.prepare is not None
    assert unit.prepare[:4] == ("python3", "-I", "-m", "control_node.balancer")


def test_a_users_command_keeps_port_health_and_its_own_braces():
    own = with_command(APP, "node server.js --port {port} '{\"a\": 1}'", {"MODE": "x{y}"})
    unit = make_unit(own, NODE, RUNTIME)
    assert unit.argv == ("node", "server.js", "--port", "5001", '{"a": 1}')
    assert unit.env["PORT"] == "5001"
    assert unit.env["MODE"] == "x{y}"
    assert own.health_path == APP.health_path


def test_a_secret_is_read_when_the_service_starts_and_stands_in_no_unit(tmp_path):
    path = tmp_path / "db-password"
    path.write_text("hunter2\n")
    node = dataclasses.replace(NODE, secrets={"db-password": str(path)})
    own = with_command(APP, "serve", {"PASSWORD": "secret:db-password"})
    unit = make_unit(own, node, RUNTIME)
    assert "PASSWORD" not in unit.env
    assert "hunter2" not in repr(unit)
    assert unit.environment()["PASSWORD"] == "hunter2"


def test_an_unknown_service_lists_the_known_ones():
    with pytest.raises(UsageProblem) as caught:
        service("redis")
    assert caught.value.hint == "known: nginx, scaler, metrics, app"


@given(st.text())
def test_only_plain_short_names_pass(text):
    plain = set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    expected = plain and 0 < len(text) <= 31 and text[0].isalpha()
    assert is_name(text) == expected


@pytest.mark.parametrize("text", ["-rf", "Agent", "a b", "a\n", "ä", "", "a" * 32, None, 3])
def test_what_is_not_a_name_is_refused_by_its_kind(text):
    with pytest.raises(UsageProblem, match="the lab"):
        check_name(text, "the lab")


def test_node_names():
    assert [node_name("agent", 3), node_name("control", 1, single=True)] == ["agent-3", "control"]


def test_times_on_the_wire():
    clock = FakeClock()
    clock.advance(1.5)
    text = rfc3339(clock.now())
    assert text.endswith("Z")
    assert parse_rfc3339(text) == clock.now()
    with pytest.raises(ValueError, match="without a zone"):
        parse_rfc3339("2026-01-01T00:00:00")
