"""YAML in, plain values out: safe, without duplicate keys, with line numbers in errors."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from labcore.errors import UsageProblem

MOST_CHARACTERS = 128 * 1024  # as JSON a request carries half of that; the rest is for comments
_STEP = re.compile(r"([A-Za-z0-9_-]+)|\[(\d+)\]")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text: put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> object:
    """The value of a YAML text. Raises UsageProblem with `source`, line and column."""
    if len(text) > MOST_CHARACTERS:
        raise UsageProblem(f"{source}: longer than {MOST_CHARACTERS} characters")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - derived from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise UsageProblem(f"{where}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UsageProblem(f"{source}: not YAML: {error}") from error
    except RecursionError as error:
        raise UsageProblem(f"{source}: lists or mappings within one another too deeply") from error


def apply_sets(data: dict[str, object], sets: tuple[str, ...], defaults: object) -> None:
    """Apply each `path=value` to `data`, in place; the value is typed as YAML types it.

    A path is dotted; an element of a list is named (`groups.agent.cpus`) or numbered
    (`groups[1].cpus`). What `data` does not say begins as a copy of the same place in `defaults`,
    so that one threshold can be set without losing the others. Raises UsageProblem.
    """
    for text in sets:
        path, separator, value = text.partition("=")
        steps = _steps(path.strip())
        if not separator or not steps:
            raise UsageProblem(
                f"--set {text!r} is not path=value", "for example: --set scaling.min=3"
            )
        _assign(data, steps, parse_yaml(value, f"--set {path}"), defaults)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None:
            return []
        steps.append(found[1] if found[1] is not None else int(found[2]))
        position = found.end()
        if path[position : position + 1] == "." and position + 1 < len(path):
            position += 1
    return steps


def _assign(data: object, steps: list[str | int], value: object, defaults: object) -> None:
    where = ""
    here, default = data, defaults
    for step in steps[:-1]:
        where += f".{step}" if isinstance(step, str) else f"[{step}]"
        default = _member(default, step)
        if isinstance(here, dict) and here.get(str(step)) is None:
            here[str(step)] = _copy(default) if default is not None else {}
        here = _member(here, step)
        if here is None:
            raise UsageProblem(f"--set: there is no {where.lstrip('.')}")
    if isinstance(here, dict):
        here[str(steps[-1])] = value
    elif isinstance(here, list) and isinstance(steps[-1], int) and steps[-1] < len(here):
        here[steps[-1]] = value
    else:
        raise UsageProblem(f"--set: {where.lstrip('.')} has no member {steps[-1]!r}")


def _member(value: object, step: str | int) -> object:
    """The member of a mapping or list that a step of a path names; None if there is none."""
    if isinstance(value, Mapping):
        return value.get(str(step))
    if not isinstance(value, list):
        return None
    if isinstance(step, int):
        return value[step] if step < len(value) else None
    named = (item for item in value if isinstance(item, Mapping) and item.get("name") == step)
    return next(named, None)


def _copy(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
