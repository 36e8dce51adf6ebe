"""Settings that one policy alone knows: `scaling.options`, checked and with their defaults."""

from __future__ import annotations

import functools
from typing import TypeVar, cast

from labcore import codec
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling

T = TypeVar("T")


def options(cls: type[T], scaling: Scaling) -> T:
    """`scaling.options` as a `cls`, a dataclass of the wire with defaults for all its fields.

    Raises UsageProblem, with the path of what is wrong.
    """
    try:
        # The ignore: mypy does not see that a class is hashable.
        return cast(T, _remembered(cls, tuple(scaling.options.items())))  # type: ignore[arg-type]
    except TypeError:  # lists cannot be looked up
        return codec.decode(cls, scaling.options, "scaling.options")


@functools.lru_cache(maxsize=64)
def _remembered(cls: type[object], items: tuple[tuple[str, object], ...]) -> object:
    return codec.decode(cls, dict(items), "scaling.options")


def within(value: float, name: str, low: float, high: float) -> None:
    """Raise UsageProblem unless low <= value <= high."""
    if not low <= value <= high:
        raise UsageProblem(f"scaling.options.{name}: {value:g} is not within {low:g}..{high:g}")
