"""What is wrong with a lab file, in sentences: `path: what (allowed: …)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labcore.names import NAME_PATTERN

_NAME = "a small letter, then up to 30 small letters, digits or hyphens"
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `also` are other places that it speaks of."""

    loc: Loc
    what: str
    allowed: str = ""
    also: tuple[Loc, ...] = ()

    def __str__(self) -> str:
        allowed = f" (allowed: {self.allowed})" if self.allowed else ""
        return f"{path_text(self.loc)}: {self.what}{allowed}"


def path_text(loc: Loc) -> str:
    """A place in the file as people write it: `groups[1].cpus`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return text.lstrip(".") or "lab file"


def from_pydantic(errors: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[Problem]:
    """One Problem for each of pydantic's errors; `schema` is the JSON Schema of the same model."""
    return [_problem(error, schema) for error in errors]


def _problem(error: Mapping[str, Any], schema: Mapping[str, Any]) -> Problem:
    loc: Loc = tuple(step for step in error["loc"] if step != "[key]")
    kind = error["type"]
    if kind == "extra_forbidden":
        known = ", ".join(_node(loc[:-1], schema).get("properties", ()))
        return Problem(loc, "unknown field", known)
    if len(loc) < len(error["loc"]):
        return Problem(loc, "not a name of a metric", "small letters, digits and underscores")
    allowed = _allowed(_node(loc, schema), schema)
    if kind == "missing":
        return Problem(loc, "missing", allowed)
    return Problem(loc, f"got {shown(error['input'])}", allowed)


def shown(value: object) -> str:
    """A value of the file as YAML would show it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _node(loc: Loc, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the schema that describes a place; {} where it says nothing."""
    node = schema
    for step in loc:
        node = _choose(node, schema, "items" if isinstance(step, int) else "properties")
        if isinstance(step, int):
            node = node.get("items", {})
        elif step in node.get("properties", {}):
            node = node["properties"][step]
        else:
            node = _any_member(node)
    return _choose(node, schema, "properties")


def _any_member(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a mapping with free keys holds."""
    more = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
    return next((schema for schema in more if isinstance(schema, Mapping)), {})


def _choose(node: Mapping[str, Any], schema: Mapping[str, Any], having: str) -> Mapping[str, Any]:
    """Follow `$ref`, and of `X | null` take X."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        node = options[0]
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _allowed(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    if node.get("pattern") == NAME_PATTERN:
        return _NAME
    text = _TYPES.get(str(node.get("type")), "")
    if "pattern" in node:
        text += f" like {node['pattern']}"
    if node.get("minLength") or node.get("minItems"):
        text += ", not empty"
    return text + _bounds(node)


def _bounds(node: Mapping[str, Any]) -> str:
    least, most, above = (node.get(key) for key in ("minimum", "maximum", "exclusiveMinimum"))
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    lower = f" above {_number(above)}" if above is not None else ""
    lower = f", {_number(least)} or more" if least is not None else lower
    return lower + (f", at most {_number(most)}" if most is not None else "")


def _number(value: float) -> str:
    """Without the exponent that `:g` gives to a million."""
    return f"{value:.12g}"
