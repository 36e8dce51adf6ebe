"""What stands behind `--policy`: NAME or NAME:setting=value,... as scaling rules."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from control_node.policies import POLICIES, check
from labcore import codec
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling
from labctl.simulate.model import World

# The timing that the brief gives for memory, on CPU: three periods must agree, and long cooldowns.
BRIEF: Mapping[str, object] = {
    "policy": "threshold",
    "evaluation_periods": 3,
    "cooldown_out_s": 300.0,
    "cooldown_in_s": 600.0,
}
DEFAULTS = ("threshold", "brief", "target", "predictive")
FIELDS = {field.name for field in dataclasses.fields(Scaling)}


def names() -> tuple[str, ...]:
    """What NAME may be."""
    return (*POLICIES, "brief")


def scaling_for(text: str, base: Scaling, world: World) -> Scaling:
    """`base`, with what `text` says. A setting is a field of Scaling, or an option of the policy.

    A policy that has an option for the target or the boot time is told those of `world`.
    Raises UsageProblem, also for settings that the policy refuses.
    """
    name, _, rest = text.partition(":")
    if name not in names():
        raise UsageProblem(f"there is no policy {name!r}", f"known: {', '.join(names())}")
    given = _settings(rest, text)
    fields: dict[str, object] = dict(BRIEF) if name == "brief" else {"policy": name}
    fields.update({key: value for key, value in given.items() if key in FIELDS})
    options = {key: value for key, value in given.items() if key not in FIELDS}
    known = getattr(POLICIES[str(fields["policy"])].options, "__dataclass_fields__", {})
    told = {"target_percent": world.target_percent, "boot_s": world.boot_s}
    fields["options"] = {key: told[key] for key in told if key in known} | options
    scaling = codec.decode(Scaling, codec.encode(base) | fields, f"--policy {name}")
    check(scaling)
    return scaling


def _settings(text: str, whole: str) -> dict[str, object]:
    settings: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        try:
            settings[key.strip()] = json.loads(value)
        except json.JSONDecodeError as error:
            hint = "NAME:setting=number,... e.g. threshold:cooldown_out_s=0,evaluation_periods=2"
            raise UsageProblem(f"--policy {whole}: cannot use {part!r}", hint) from error
        if not equals or not key.strip():
            raise UsageProblem(f"--policy {whole}: cannot use {part!r}")
    return settings
