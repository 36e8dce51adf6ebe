"""What the configuration says, without an nginx."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_node.balancer.model import Backend, Routing, View
from control_node.balancer.render import Settings, generation_of, render
from labcore.errors import UsageProblem
from labcore.wire.lab import Balancer, Route

GOLDEN = Path(__file__).with_name("golden")
MAIN = Balancer("main", "control", (Route("/", "agent"),))
OLD = Settings("127.0.0.1:8080", (1, 22, 1))
NEW = Settings("0.0.0.0:80", (1, 31, 3), workers=4, user="root root")
TWO = Routing(
    (MAIN,), {"agent": (Backend("agent-1", "127.0.0.1:5001"), Backend("agent-2", "127.0.0.1:5002"))}
)
EDGE = Routing(
    (
        Balancer(
            "edge",
            "control",
            (
                Route("/", "web"),
                Route("/events", "agent", ("sse",)),
                Route("/socket", "agent", ("websocket",)),
                Route("/empty/", "spare"),
            ),
        ),
        Balancer("admin", "control", (Route("/admin/", "web"),), port=81),
    ),
    {"web": (Backend("web-1", "10.0.0.5:5000"),), "agent": TWO.backends["agent"], "spare": ()},
    drain_s=2.5,
)


@pytest.mark.parametrize(
    ("name", "routing", "settings"),
    [
        ("empty", Routing((MAIN,)), OLD),
        ("two", TWO, OLD),
        ("routes", EDGE, NEW),
    ],
)
def test_golden(name: str, routing: Routing, settings: Settings):
    """After a wanted change: write what `render` gives into golden/, and read the diff."""
    assert render(routing, settings) == (GOLDEN / f"{name}.conf").read_text()


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ((1, 22, 1), ["keepalive_timeout 0;"]),
        ((1, 27, 3), ["keepalive_timeout 0;"]),
        ((1, 27, 4), ["keepalive_timeout 75s;", "keepalive_min_timeout 1s;"]),
    ],
)
def test_clients_are_kept_only_where_a_reload_spares_them(version, lines):
    text = render(TWO, dataclasses.replace(OLD, version=version))
    client_side = text[: text.index("upstream ")]
    found = [line.strip() for line in client_side.splitlines()]
    assert [line for line in found if line.startswith("keepalive")] == lines


def changed(**fields) -> Routing:
    return dataclasses.replace(TWO, **fields)


def route(path: str = "/", to: str = "agent", *options: str) -> Routing:
    return changed(balancers=(Balancer("main", "control", (Route(path, to, options),)),))


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        (changed(balancers=()), "no balancer"),
        (changed(balancers=(dataclasses.replace(MAIN, tls=True),)), "tls is not offered"),
        (changed(balancers=(MAIN, dataclasses.replace(MAIN, port=8080))), "the same port"),
        (route("/", "agent", "static"), "option 'static' is not offered yet"),
        (route("/", "agent", "rate_limit"), "option 'rate_limit' is not offered yet"),
        (route("/a b"), "cannot be routed"),
        (route("/$x"), "cannot be routed"),
        (route("x"), "cannot be routed"),
        (route("/.labctl/x"), "cannot be routed"),
        (route("/", "a;b"), "is not a name"),
        (changed(balancers=(dataclasses.replace(MAIN, routes=MAIN.routes * 2),)), "same path"),
        (changed(backends={"a b": (Backend("x", "h:1"),)}), "is not a name"),
        (changed(backends={"agent": (Backend("x y", "h:1"),)}), "is not a name"),
        (changed(backends={"agent": (Backend("x", "h"),)}), "is not address:port"),
        (changed(backends={"agent": (Backend("x", "h;:1"),)}), "is not address:port"),
        (changed(backends={"agent": (Backend("x", "h:1"), Backend("y", "h:1"))}), "same address"),
    ],
)
def test_what_is_refused(routing: Routing, message: str):
    with pytest.raises(UsageProblem, match=message):
        render(routing, OLD)
    with pytest.raises(UsageProblem, match=message):
        generation_of(routing, OLD)


nodes = st.sets(st.integers(1, 99), max_size=6).map(sorted)


def members(numbers: list[int]) -> tuple[Backend, ...]:
    return tuple(Backend(f"agent-{n}", f"127.0.0.1:{5000 + n}") for n in numbers)


@given(nodes, nodes, st.randoms())
def test_equal_generations_are_equal_memberships(one, other, random):
    shuffled = list(members(one))
    random.shuffle(shuffled)
    first = generation_of(changed(backends={"agent": members(one)}), OLD)
    assert generation_of(changed(backends={"agent": tuple(shuffled)}), OLD) == first
    second = generation_of(changed(backends={"agent": members(other)}), OLD)
    assert (first == second) == (one == other)


@given(nodes)
def test_the_text_names_the_members_and_nobody_else(numbers):
    text = render(changed(backends={"agent": members(numbers)}), OLD)
    served = {line.split()[1] for line in text.splitlines() if line.strip().startswith("server 1")}
    assert served == {b.address for b in members(numbers)}
    assert (
        f'return 200 "{generation_of(changed(backends={"agent": members(numbers)}), OLD)}"' in text
    )


def test_settings_and_drain_make_another_generation():
    others = [
        generation_of(changed(drain_s=5.0), OLD),
        generation_of(TWO, dataclasses.replace(OLD, version=(1, 30, 0))),
        generation_of(TWO, dataclasses.replace(OLD, listen="127.0.0.1:9080")),
        generation_of(TWO, OLD),
    ]
    assert len(set(others)) == 4


AGENT = {"agent": (Backend("agent-1", "h:1"),)}


@pytest.mark.parametrize(
    ("view", "reached"),
    [
        (View("b", "b", AGENT), False),
        (View("b", "b", AGENT, old_workers=(7,)), True),
        (View("b", "a", AGENT), True),
        (View("b", None, None), True),
        (View("b", "b", None), True),
        (View(None, None, None), True),
    ],
)
def test_a_node_is_unreached_only_if_that_is_known(view: View, reached: bool):
    assert view.may_reach("agent-2") is reached
    assert view.may_reach("agent-1") is True
