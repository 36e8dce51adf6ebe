"""The lab file: read it, check it, and turn it into what travels on the wire.

`load` and `parse` are for files, `validate` for a body that came by HTTP. All three answer a
LabFile or raise UsageProblem whose `details` name every problem at once, with its path.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from labcore.errors import NotFound, UsageProblem
from labcore.services import CATALOGUE, SECRET_PREFIX, Service, with_command, with_image
from labcore.wire.lab import Balancer, Route
from labcore.wire.lab import Group as WireGroup
from labcore.wire.lab import Scaling as WireScaling
from server_manager.labfile_checks import check
from server_manager.labfile_models import App, Group, LabFile, Scaling
from server_manager.labfile_problems import Loc, Problem, from_pydantic
from server_manager.labfile_yaml import apply_sets, parse_yaml

__all__ = ["App", "Group", "LabFile", "Scaling", "Topology"]


def load(path: Path, sets: tuple[str, ...] = (), *, lab: str | None = None) -> LabFile:
    """Read a lab file, see `parse`. Raises NotFound if there is none, and UsageProblem."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no lab file {path}", "labctl init writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"cannot read {path}: {error}") from error
    return parse(text, str(path), sets, lab=lab)


def parse(text: str, source: str, sets: tuple[str, ...] = (), *, lab: str | None = None) -> LabFile:
    """Make a LabFile of YAML; see `override`."""
    data = parse_yaml(text, source)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise UsageProblem(f"{source}: expected a mapping like 'lab: demo'")
    return override(data, source, sets, lab=lab)


def override(
    data: dict[str, object], source: str, sets: tuple[str, ...], *, lab: str | None = None
) -> LabFile:
    """Make a LabFile of plain values, which are changed: `lab` replaces its name, each of `sets`,
    `path=value`, one field. Raises UsageProblem."""
    if lab is not None:
        data["lab"] = lab
    apply_sets(data, sets, to_json(LabFile(lab="defaults")))
    return validate(data, source)


def validate(data: object, source: str = "lab file") -> LabFile:
    """Make a LabFile of plain values. Raises UsageProblem with every problem in `details`."""
    if not isinstance(data, Mapping):
        raise UsageProblem(f"{source}: expected a mapping")
    errors = _field_problems(data)
    lab, dropped = _what_is_right(data, errors)
    others = check(lab) if lab is not None else []
    # Two groups of one name share the scaling at the top: what is wrong there is said once.
    problems = list(dict.fromkeys(errors + [p for p in others if not _rests_on(p, dropped)]))
    if problems or lab is None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageProblem(
            f"{source}: {count}",
            "labctl schema prints what is allowed",
            tuple(map(str, problems)),
        )
    return lab


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a lab file, for editors."""
    schema = LabFile.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def to_json(lab: LabFile) -> dict[str, Any]:
    """Plain values that `validate` makes the same LabFile of; the body of `PUT /labs/{lab}`.

    Parts that were left out and would be found by their absence (`scaling`, when groups have
    their own) stay left out.
    """
    data: dict[str, Any] = lab.model_dump(mode="json", by_alias=True, exclude_none=True)
    if lab.scaling is None:
        data["scaling"] = None
    elif "scaling" not in lab.model_fields_set and lab.scaled_group() is None:
        del data["scaling"]
    return data


@dataclass(frozen=True)
class Topology:
    """A lab file on the wire: what the registry stores and drivers are asked for."""

    groups: tuple[WireGroup, ...]  # desired_count and mode as at creation
    balancers: tuple[Balancer, ...]
    services: Mapping[str, tuple[Service, ...]]  # by group, the user's app in place of ours


def to_wire(lab: LabFile) -> Topology:
    """The groups, balancers and services of a lab file, every default filled in."""
    return Topology(
        groups=tuple(_group(lab, group) for group in lab.groups),
        balancers=_balancers(lab),
        services={
            group.name: tuple(
                _app(lab.app) if name == "app" else CATALOGUE[name] for name in group.service_names
            )
            for group in lab.groups
        },
    )


def _group(lab: LabFile, group: Group) -> WireGroup:
    scaling = lab.scaling_of(group)
    return WireGroup(
        name=group.name,
        role=group.role,
        region=lab.region_of(group),
        desired_count=lab.count_of(group),
        mode="manual" if scaling is None else scaling.mode,
        services=group.service_names,
        cpus=group.cpus,
        memory_mib=group.memory_mib,
        scaling=None if scaling is None else _scaling(scaling),
    )


def _scaling(scaling: Scaling) -> WireScaling:
    return WireScaling(
        policy=scaling.policy,
        min=scaling.min,
        max=scaling.max,
        interval_s=scaling.interval_s,
        out_above=scaling.out,
        in_below=scaling.in_,
        cooldown_out_s=scaling.cooldown_out_s,
        cooldown_in_s=scaling.cooldown_in_s,
        evaluation_periods=scaling.evaluation_periods,
        drain_s=scaling.drain_s,
        standby=scaling.standby,
        removal=scaling.removal,
        options=scaling.options,
    )


def _balancers(lab: LabFile) -> tuple[Balancer, ...]:
    if lab.balancers:
        return tuple(
            Balancer(
                name=entry.name or entry.group,
                group=entry.group,
                routes=tuple(Route(r.path, r.to, tuple(r.options)) for r in entry.routes),
                port=entry.port,
                tls=entry.tls,
            )
            for entry in lab.balancers
        )
    entries = [group.name for group in lab.groups if "nginx" in group.service_names]
    targets = [lab.scaled_group()] if lab.scaled_group() else []
    targets += [group.name for group in lab.groups if group.role == "agent"]
    if not entries or not targets or targets[0] is None:
        return ()
    return (Balancer(entries[0], entries[0], (Route("/", targets[0]),)),)


def _app(app: App) -> Service:
    """The service `app` as the file wants it; the secrets its env names become its secrets."""
    base = CATALOGUE["app"]
    if app.command is not None:
        service = with_command(base, app.command, app.env)
    elif app.image is not None:
        service = with_image(base, app.image, app.env)
    else:
        service = dataclasses.replace(base, env={**base.env, **app.env})
    named = (v.removeprefix(SECRET_PREFIX) for v in app.env.values() if v.startswith(SECRET_PREFIX))
    return dataclasses.replace(
        service, port=app.port, secrets=tuple(dict.fromkeys((*service.secrets, *named)))
    )


def _field_problems(data: Mapping[str, object]) -> list[Problem]:
    try:
        LabFile.model_validate(data)
    except pydantic.ValidationError as error:
        return from_pydantic(error.errors(include_url=False), LabFile.model_json_schema())
    return []


def _what_is_right(
    data: Mapping[str, object], errors: list[Problem]
) -> tuple[LabFile | None, list[Loc]]:
    """The lab file without what is wrong in it, so that the rest is checked too; what was dropped.

    A part that cannot be without its wrong field goes as a whole. None: nothing is left.
    """
    rest = copy.deepcopy(dict(data))
    dropped: list[Loc] = []
    wrong = [problem.loc for problem in errors]
    while () not in wrong:
        # Of a list the whole goes, so that no other element moves.
        gone = [loc[:-1] if isinstance(loc[-1], int) else loc for loc in wrong]
        for loc in gone:
            _drop(rest, loc)
        dropped += gone
        rest.setdefault("lab", "unnamed")
        wrong = [problem.loc[:-1] for problem in _field_problems(rest)]
        if not wrong:
            return LabFile.model_validate(rest), dropped
    return None, dropped


def _drop(data: object, loc: Loc) -> None:
    for step in loc[:-1]:
        if isinstance(data, list) and isinstance(step, int):
            data = data[step]
        else:
            data = data.get(step) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data.pop(loc[-1], None)


def _rests_on(problem: Problem, dropped: list[Loc]) -> bool:
    """Whether a problem speaks of something that was dropped."""
    places = (problem.loc, *problem.also)
    return any(place[: len(loc)] == loc for place in places for loc in dropped)
