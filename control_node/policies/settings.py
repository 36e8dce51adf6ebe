"""Settings that one policy alone knows: `scaling.options`, checked and with their defaults.

What is made of them is kept: a decision is made many thousand times with the same settings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

from labcore import codec
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling

T = TypeVar("T")
U = TypeVar("U")


class _Same:
    """Equal to another if both hold the very same object, which nobody changes."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def options(cls: type[T], scaling: Scaling) -> T:
    """`scaling.options` as a `cls`, a dataclass of the wire with defaults for all its fields.

    Raises UsageProblem, with the path of what is wrong.
    """
    # The ignore: mypy does not see that a class is hashable.
    return cast(T, _decoded(cls, _Same(scaling.options)))  # type: ignore[arg-type]


def made(make: Callable[[U], T], chosen: U) -> T:
    """`make(chosen)`, made once for the same options."""
    return cast(T, _made(make, _Same(chosen)))


@functools.lru_cache(maxsize=64)
def _decoded(cls: type[object], given: _Same) -> object:
    return codec.decode(cls, given.thing, "scaling.options")


@functools.lru_cache(maxsize=64)
def _made(make: Callable[[U], object], chosen: _Same) -> object:
    return make(cast(U, chosen.thing))


def within(value: float, name: str, low: float, high: float) -> None:
    """Raise UsageProblem unless low <= value <= high."""
    if not low <= value <= high:
        raise UsageProblem(f"scaling.options.{name}: {value:g} is not within {low:g}..{high:g}")
