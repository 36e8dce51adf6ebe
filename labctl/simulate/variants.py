"""What stands behind `--policy`: NAME, NAME:setting=value,..., or a lab file, as scaling rules."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from control_node.policies import POLICIES, check
from labcore import codec
from labcore.errors import NotFound, UsageProblem
from labcore.wire.lab import Scaling
from labctl.simulate.model import World
from server_manager import labfile

# The timing that the brief gives for memory: three periods must agree, and long cooldowns.
TIMING: Mapping[str, object] = {
    "evaluation_periods": 3,
    "cooldown_out_s": 300.0,
    "cooldown_in_s": 600.0,
}
# Names that stand for settings too: `memory` as the brief has it, and the same timing on CPU.
NAMED: Mapping[str, Mapping[str, object]] = {
    "memory": {
        "policy": "memory",
        **TIMING,
        "out_above": {"memory_percent": 80.0},
        "in_below": {"memory_percent": 30.0},
    },
    "brief": {"policy": "threshold", **TIMING},
}
DEFAULTS = ("threshold", "memory", "brief", "target", "predictive")
FIELDS = {field.name for field in dataclasses.fields(Scaling)}
LAB_FILE = re.compile(r"(.+\.ya?ml)(?::([a-z][a-z0-9-]*))?")
SETTING = re.compile(r"\s*([a-z_]+)\s*=\s*")
WORD = re.compile(r"[^,]+")
HINT = (
    "NAME:setting=value,... e.g. threshold:cooldown_out_s=0 or "
    'schedule:rows=[{"from":"12:00","to":"18:00","count":5}]; or a lab file'
)


def names() -> tuple[str, ...]:
    """What NAME may be."""
    return tuple(dict.fromkeys((*POLICIES, *NAMED)))


def scaling_for(text: str, base: Scaling, world: World) -> Scaling:
    """`base`, with what `text` says. A setting is a field of Scaling, or an option of the policy.

    Of a lab file all rules count but min, max and interval_s, so that the rows can be compared. A
    policy that has an option for the target or the boot time is told those of `world`, unless
    `text` says otherwise. Raises UsageProblem, also for settings that the policy refuses, and
    NotFound.
    """
    of_file = LAB_FILE.fullmatch(text)
    given = _of_file(Path(of_file[1]), of_file[2]) if of_file else _of_name(text)
    fields = {key: value for key, value in given.items() if key in FIELDS}
    options = {key: value for key, value in given.items() if key not in FIELDS}
    known = getattr(POLICIES[str(fields["policy"])].options, "__dataclass_fields__", {})
    told = {"target_percent": world.target_percent, "boot_s": world.boot_s}
    fields["options"] = {key: told[key] for key in told if key in known} | options
    scaling = codec.decode(Scaling, codec.encode(base) | fields, f"--policy {text}")
    check(scaling)
    return scaling


def _of_name(text: str) -> dict[str, object]:
    name, _, rest = text.partition(":")
    if name not in names():
        raise UsageProblem(
            f"there is no policy {name!r}", f"known: {', '.join(names())}; or a lab file"
        )
    return {**NAMED.get(name, {"policy": name}), **_settings(rest, text)}


def _of_file(path: Path, name: str | None) -> dict[str, object]:
    groups = {g.name: g.scaling for g in labfile.to_wire(labfile.load(path)).groups if g.scaling}
    known = f"it scales: {', '.join(groups) or 'none'}"
    if name is not None and name not in groups:
        raise NotFound(f"{path} scales no group {name!r}", known)
    if name is None and len(groups) != 1:
        raise UsageProblem(f"{path} scales {len(groups)} groups", f"{path}:GROUP; {known}")
    scaling = groups[name] if name is not None else next(iter(groups.values()))
    check(scaling)
    fields: dict[str, object] = codec.encode(scaling)
    of_plan = ("min", "max", "interval_s", "options")
    return {k: v for k, v in fields.items() if k not in of_plan} | dict(scaling.options)


def _settings(text: str, whole: str) -> dict[str, object]:
    """`setting=value,...`; a value is JSON, or a word."""
    settings: dict[str, object] = {}
    at = 0
    while at < len(text):
        key = SETTING.match(text, at)
        if key is None:
            raise UsageProblem(f"--policy {whole}: cannot use {text[at:]!r}", HINT)
        try:
            value, end = json.JSONDecoder().raw_decode(text, key.end())
        except json.JSONDecodeError as error:
            word = WORD.match(text, key.end())
            if word is None or text[key.end()] in '[{"':
                raise UsageProblem(f"--policy {whole}: cannot use {text[at:]!r}", HINT) from error
            value, end = word[0], word.end()
        if text[end : end + 1] not in ("", ","):
            raise UsageProblem(f"--policy {whole}: cannot use {text[at:]!r}", HINT)
        settings[key[1]], at = value, end + 1
    return settings
