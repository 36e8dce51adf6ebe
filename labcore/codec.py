"""The strict JSON codec of the wire types: frozen dataclasses in, plain JSON values out.

Supported field types: str, int, float, bool, None, StrEnum, Literal, dataclasses, `X | None`,
`tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]` and `object` (any JSON value). Everything else is
refused when it is met. `int` is accepted where `float` stands; NaN and infinities never pass.

A type is made into a reader once, a function of one JSON value; decoding is a call of that.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from labcore.errors import UsageProblem

T = TypeVar("T")
Reader = Callable[[object], object]


class WireError(UsageProblem):
    """JSON that does not have the shape of the type it should become; says where and what."""


class _Mismatch(Exception):
    """A value of the wrong shape. Its path is put together on the way out, so that the path of a
    good value costs nothing."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.path: list[str] = []  # innermost first


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
    try:
        return typing.cast(T, _reader(typing.cast(Any, cls))(data))
    except _Mismatch as wrong:
        path = "".join(reversed(wrong.path))
        raise WireError(f"{where}{path}: {wrong.what}", wrong.hint) from None


@functools.cache
def _reader(kind: Any) -> Reader:
    """Raises TypeError for what is no type of the wire."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _enum_reader(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(kind, arguments)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is Mapping:
        return _mapping_reader(_reader(arguments[1]))
    return _plain_reader(kind, arguments)


def _dataclass_reader(cls: type) -> Reader:
    fields = dataclasses.fields(cls)
    hints = typing.get_type_hints(cls)
    readers = {f.name: _reader(hints[f.name]) for f in fields}
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]

    def read(data: object) -> object:
        given = _mapping(data)
        if not given.keys() <= readers.keys():
            unknown = min(given.keys() - readers.keys(), key=str)
            raise _Mismatch(f"unknown field {unknown!r}", f"known: {', '.join(readers)}")
        for name in required:
            if name not in given:
                raise _Mismatch(f"field {name!r} is missing")
        values = {}
        for name, value in given.items():
            try:
                values[name] = readers[name](value)
            except _Mismatch as wrong:
                wrong.path.append(f".{name}")
                raise
        return cls(**values)

    return read


def _optional_reader(kind: Any, arguments: tuple[Any, ...]) -> Reader:
    members = [k for k in arguments if k is not types.NoneType]
    if len(members) != 1:
        raise TypeError(f"{kind} is not a type of the wire: only `X | None` is")
    read = _reader(members[0])
    return lambda data: None if data is None else read(data)


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    if arguments[1:] == (...,):
        every = _reader(arguments[0])
        return lambda data: _items([every] * len(_list(data)), _list(data))
    readers = [_reader(kind) for kind in arguments]
    return lambda data: _items(readers, _list(data))


def _items(readers: list[Reader], items: list[object]) -> object:
    if len(items) != len(readers):
        raise _Mismatch(f"expected {len(readers)} items, got {len(items)}")
    values = []
    for i, (read, item) in enumerate(zip(readers, items, strict=True)):
        try:
            values.append(read(item))
        except _Mismatch as wrong:
            wrong.path.append(f"[{i}]")
            raise
    return tuple(values)


def _mapping_reader(read: Reader) -> Reader:
    def read_all(data: object) -> object:
        values = {}
        for key, item in _mapping(data).items():
            if not isinstance(key, str):
                raise _Mismatch(f"the key {key!r} is not a string")
            try:
                values[key] = read(item)
            except _Mismatch as wrong:
                wrong.path.append(f".{key}")
                raise
        return values

    return read_all


def _enum_reader(kind: type[StrEnum]) -> Reader:
    members = {member.value: member for member in kind}
    return lambda data: members[str(_one_of(tuple(members), data))]


def _plain_reader(kind: Any, arguments: tuple[Any, ...]) -> Reader:
    if typing.get_origin(kind) is typing.Literal:
        return lambda data: _one_of(arguments, data)
    if kind is object:
        return lambda data: data
    if kind is float:
        return _float
    if kind not in (str, int, bool):
        raise TypeError(f"{kind} is not a type of the wire")

    def read(data: object) -> object:
        if type(data) is kind:
            return data
        raise _Mismatch(f"expected {kind.__name__}, got {data!r}")

    return read


def _float(data: object) -> object:
    if type(data) is float and math.isfinite(data):
        return data
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise _Mismatch(f"expected float, got {data!r}")
    try:
        value = float(data)
    except OverflowError:  # an int of more than 308 digits
        value = math.inf
    if not math.isfinite(value):
        raise _Mismatch(f"{value!r} is not a number")
    return value


def _one_of(allowed: tuple[object, ...], data: object) -> object:
    if data in allowed and not isinstance(data, bool):
        return data
    raise _Mismatch(f"{data!r} is not one of {', '.join(map(str, allowed))}")


def _mapping(data: object) -> Mapping[str, object]:
    """The caller looks at the keys."""
    if type(data) is dict or isinstance(data, Mapping):
        return data
    raise _Mismatch(f"expected an object, got {data!r}")


def _list(data: object) -> list[object]:
    if isinstance(data, list):
        return data
    raise _Mismatch(f"expected a list, got {data!r}")
