"""The strict JSON codec of the wire types: frozen dataclasses in, plain JSON values out.

Supported field types: str, int, float, bool, None, StrEnum, Literal, dataclasses, `X | None`,
`tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]` and `object` (any JSON value). Everything else is
refused when it is met. `int` is accepted where `float` stands; NaN and infinities never pass.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from labcore.errors import UsageProblem

T = TypeVar("T")


class WireError(UsageProblem):
    """JSON that does not have the shape of the type it should become; says where and what."""


def encode(value: object) -> Any:
    """A JSON value (dict, list, str, int, float, bool, None) for a dataclass or a part of one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise WireError(f"{value!r} cannot be sent as JSON")


def decode(cls: type[T], data: object, where: str = "$") -> T:
    """Make a `cls` from a JSON value. Unknown and missing fields are errors, with their path.

    A field with a default may be missing. Raises WireError (a UsageProblem).
    """
    return typing.cast(T, _decode(cls, data, where))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(kind: Any, data: object, where: str) -> object:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), data, where)
    origin = typing.get_origin(kind)
    if origin is not None:
        return _decode_generic(kind, origin, data, where)
    return data if kind is object else _decode_scalar(kind, data, where)


def _decode_generic(kind: Any, origin: Any, data: object, where: str) -> object:
    arguments = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(kind, data, where)
    if origin is typing.Literal:
        return _one_of(arguments, data, where)
    if origin is tuple:
        return _decode_tuple(arguments, _list(data, where), where)
    if origin is Mapping:
        pairs = _mapping(data, where).items()
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in pairs}
    raise TypeError(f"{kind} is not a type of the wire")


def _decode_tuple(arguments: tuple[Any, ...], items: list[object], where: str) -> object:
    if arguments[1:] == (...,):
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise WireError(f"{where}: expected {len(arguments)} items, got {len(items)}")
    return tuple(
        _decode(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(arguments, items, strict=True))
    )


def _decode_dataclass(cls: type, data: object, where: str) -> object:
    given = _mapping(data, where)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise WireError(f"{where}: unknown field {unknown[0]!r}", f"known: {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name in given:
            values[name] = _decode(_hints(cls)[name], given[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WireError(f"{where}: field {name!r} is missing")
    return cls(**values)


def _decode_optional(kind: Any, data: object, where: str) -> object:
    members = [k for k in typing.get_args(kind) if k is not types.NoneType]
    if len(members) != 1:
        raise TypeError(f"{kind} is not a type of the wire: only `X | None` is")
    return None if data is None else _decode(members[0], data, where)


def _decode_scalar(kind: Any, data: object, where: str) -> object:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        members = {member.value: member for member in kind}
        return members[str(_one_of(tuple(members), data, where))]
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        if not math.isfinite(data):
            raise WireError(f"{where}: {data!r} is not a number")
        return float(data)
    if kind in (str, int, bool) and type(data) is kind:
        return data
    if kind in (str, int, bool, float):
        raise WireError(f"{where}: expected {kind.__name__}, got {data!r}")
    raise TypeError(f"{kind} is not a type of the wire")


def _one_of(allowed: tuple[object, ...], data: object, where: str) -> object:
    if data in allowed and not isinstance(data, bool):
        return data
    raise WireError(f"{where}: {data!r} is not one of {', '.join(map(str, allowed))}")


def _mapping(data: object, where: str) -> Mapping[str, object]:
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data):
        return data
    raise WireError(f"{where}: expected an object, got {data!r}")


def _list(data: object, where: str) -> list[object]:
    if isinstance(data, list):
        return data
    raise WireError(f"{where}: expected a list, got {data!r}")
