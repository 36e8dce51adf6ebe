"""Laws of the wire codec: what is encoded comes back equal; anything else is refused by path."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labcore.codec import WireError, decode, encode
from labcore.wire.event import Event
from labcore.wire.lab import Lab, Scaling
from labcore.wire.metrics import AgentMetrics, Memory
from labcore.wire.node import NodeConfig
from labcore.wire.scaler import Decision, ScalerStatus


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    x: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    ok: bool
    colour: Colour
    kind: Literal["a", "b"]
    inner: Inner
    pair: tuple[float, int]
    maybe: Inner | None = None
    by_name: Mapping[str, Inner] = field(default_factory=dict)


finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, finite, st.lists(st.text()).map(tuple))
outers = st.builds(
    Outer,
    name=st.text(),
    count=st.integers(),
    ok=st.booleans(),
    colour=st.sampled_from(Colour),
    kind=st.sampled_from(["a", "b"]),
    inner=inners,
    pair=st.tuples(finite, st.integers()),
    maybe=st.none() | inners,
    by_name=st.dictionaries(st.text(), inners),
)


def wire_values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a wire type: small, but every field varies."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: wire_values(hint) for name, hint in hints.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return st.lists(wire_values(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=3), wire_values(arguments[1]), max_size=2)
    if origin is typing.Union or isinstance(kind, types.UnionType):
        return st.none() | wire_values(next(a for a in arguments if a is not types.NoneType))
    if kind is object:
        return st.none() | st.booleans() | st.integers() | st.text(max_size=3)
    return finite if kind is float else st.from_type(kind)


@given(outers)
def test_what_is_encoded_comes_back_equal(value):
    assert decode(Outer, json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    "kind", [Lab, Scaling, Event, AgentMetrics, Memory, NodeConfig, Decision, ScalerStatus]
)
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_wire_type_round_trips(kind, data):
    value = data.draw(wire_values(kind))
    assert decode(kind, json.loads(json.dumps(encode(value)))) == value


GOOD = encode(Outer("n", 1, True, Colour.RED, "a", Inner(1.5), (1.0, 2)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": "1"}, "$.count: expected int, got '1'"),
        ({"count": True}, "$.count: expected int, got True"),
        ({"count": 1.0}, "$.count: expected int, got 1.0"),
        ({"ok": 1}, "$.ok: expected bool, got 1"),
        ({"colour": "green"}, "$.colour: 'green' is not one of red, blue"),
        ({"kind": "c"}, "$.kind: 'c' is not one of a, b"),
        ({"inner": {"x": math.nan}}, "$.inner.x: nan is not a number"),
        ({"inner": {"x": "y"}}, "$.inner.x: expected float, got 'y'"),
        ({"inner": {"x": 1, "z": 2}}, "$.inner: unknown field 'z'"),
        ({"inner": {}}, "$.inner: field 'x' is missing"),
        ({"inner": {"x": 1, "tags": "ab"}}, "$.inner.tags: expected a list, got 'ab'"),
        ({"inner": {"x": 1, "tags": [1]}}, "$.inner.tags[0]: expected str, got 1"),
        ({"pair": [1.0]}, "$.pair: expected 2 items, got 1"),
        ({"by_name": {"a": None}}, "$.by_name.a: expected an object, got None"),
        ({"by_name": {1: None}}, "$.by_name: the key 1 is not a string"),
        ({"inner": {1: None, "x": 1}}, "$.inner: unknown field 1"),
        ({"inner": {"x": 10**400}}, "$.inner.x: inf is not a number"),
        ({"inner": {"x": True}}, "$.inner.x: expected float, got True"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(change, text):
    with pytest.raises(WireError) as caught:
        decode(Outer, {**GOOD, **change})
    assert caught.value.message == text


def test_an_int_may_stand_for_a_float():
    assert decode(Inner, {"x": 3}) == Inner(3.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"raw"])
def test_what_json_cannot_say_is_not_sent(value):
    with pytest.raises(WireError):
        encode({"x": value})
