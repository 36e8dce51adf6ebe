"""What no single field can tell: references, duplicates, limits that depend on each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

from labcore.names import is_name
from labcore.services import CATALOGUE, SECRET_PREFIX
from server_manager.labfile_models import (
    Group,
    LabFile,
    Scaling,
)
from server_manager.labfile_problems import Loc, Problem
from server_manager.labspec import MOST_AGENTS


def check(lab: LabFile) -> list[Problem]:
    """Every problem of a lab file whose single fields are right, in the order of the file."""
    return [problem for checks in _CHECKS for problem in checks(lab)]


def _groups(lab: LabFile) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, group in enumerate(lab.groups):
        loc: Loc = ("groups", index)
        if group.name in seen:
            yield Problem((*loc, "name"), f"there are two groups named {group.name!r}")
        seen.add(group.name)
        yield from _names_of_members(lab, group, loc)
        yield from _services(group, loc)
        yield from _count(lab, group, loc)
    if not any(group.role == "control" for group in lab.groups):
        yield Problem(("groups",), "no group has the role control", "one at least")


def _names_of_members(lab: LabFile, group: Group, loc: Loc) -> Iterator[Problem]:
    others = "|".join(re.escape(other.name) for other in lab.groups)
    if re.fullmatch(rf"({others})-\d+", group.name):
        yield Problem(
            (*loc, "name"), f"{group.name!r} would be the name of a node of another group"
        )
    if len(group.name) > 28:
        what = f"{group.name!r} leaves no room for the number of a node"
        yield Problem((*loc, "name"), what, "28 letters at most")


def _services(group: Group, loc: Loc) -> Iterator[Problem]:
    names = group.service_names
    for index, name in enumerate(names):
        if name not in CATALOGUE:
            where = (*loc, "services", index)
            yield Problem(where, f"unknown service {name!r}", ", ".join(CATALOGUE))
        elif name in names[:index]:
            yield Problem((*loc, "services", index), f"{name!r} stands twice")
        else:
            for needed in CATALOGUE[name].after:
                if needed not in names:
                    what = f"{name!r} needs {needed!r} on the same node"
                    yield Problem((*loc, "services", index), what)


def _count(lab: LabFile, group: Group, loc: Loc) -> Iterator[Problem]:
    scaling = lab.scaling_of(group)
    where = (*loc, "count")
    if group.role == "control" and lab.count_of(group) != 1:
        yield Problem(where, f"a control group with {lab.count_of(group)} nodes", "1")
    elif scaling is not None and not scaling.min <= lab.count_of(group) <= scaling.max:
        place = _scaling_loc(lab, group, loc)
        what = f"{lab.count_of(group)} is not within min and max"
        allowed = f"{scaling.min} to {scaling.max}"
        if scaling.min <= scaling.max:
            yield Problem(where, what, allowed, ((*place, "min"), (*place, "max")))


def _scaling_loc(lab: LabFile, group: Group, loc: Loc) -> Loc:
    return ("scaling",) if group.name == lab.scaled_group() else (*loc, "scaling")


def _scalings(lab: LabFile) -> Iterator[Problem]:
    yield from _top_level_scaling(lab)
    for index, group in enumerate(lab.groups):
        loc: Loc = ("groups", index)
        scaling = lab.scaling_of(group)
        if scaling is None:
            continue
        where = _scaling_loc(lab, group, loc)
        yield from _limits(scaling, where)
        yield from _thresholds(scaling, where)
        if group.role == "control":
            what = f"group {group.name!r} has the role control"
            yield Problem(where, what, "a group of agents", (loc,))
        elif "metrics" not in group.service_names:
            yield Problem((*loc, "services"), "a group that is scaled needs the service 'metrics'")


def _top_level_scaling(lab: LabFile) -> Iterator[Problem]:
    name = lab.scaled_group()
    groups = {group.name: group for group in lab.groups}
    agents = ", ".join(group.name for group in lab.groups if group.role == "agent")
    where: Loc = ("scaling", "group")
    if name is None and lab.scaling is not None and "scaling" in lab.model_fields_set:
        yield Problem(where, "does not say which group it is about", agents, (("groups",),))
    elif name is not None and name not in groups:
        yield Problem(where, f"there is no group {name!r}", agents, (("groups",),))
    elif name is not None and groups[name].scaling is not None:
        yield Problem(where, f"group {name!r} has its own scaling", "one of the two")
    for index, group in enumerate(lab.groups):
        if group.scaling is not None and group.scaling.group not in (None, group.name):
            where = ("groups", index, "scaling", "group")
            yield Problem(where, "is only for the top level", "leave it out")


def _limits(scaling: Scaling, where: Loc) -> Iterator[Problem]:
    also = ((*where, "min"), (*where, "max"))
    if scaling.min > scaling.max:
        what = f"{scaling.min} is more than max"
        yield Problem((*where, "min"), what, f"at most {scaling.max}", also)
    if scaling.max + scaling.standby > MOST_AGENTS:
        what = f"{scaling.standby} and max {scaling.max} are too many together"
        yield Problem((*where, "standby"), what, f"{MOST_AGENTS} together", also)


def _thresholds(scaling: Scaling, where: Loc) -> Iterator[Problem]:
    for side, values in (("out", scaling.out), ("in", scaling.in_)):
        for metric, value in values.items():
            if metric.endswith("_percent") and value > 100:
                what = f"got {value:g}"
                yield Problem((*where, side, metric), what, "a number from 0 to 100")
    for metric, value in scaling.in_.items():
        if metric in scaling.out and value >= scaling.out[metric]:
            also = ((*where, "out", metric),)
            limit = f"less than out, {scaling.out[metric]:g}"
            yield Problem((*where, "in", metric), f"got {value:g}", limit, also)


def _balancers(lab: LabFile) -> Iterator[Problem]:
    groups = {group.name: group for group in lab.groups}
    seen: set[str] = set()
    for index, balancer in enumerate(lab.balancers):
        loc: Loc = ("balancers", index)
        also: tuple[Loc, ...] = (("groups",),)
        if balancer.group not in groups:
            what = f"there is no group {balancer.group!r}"
            yield Problem((*loc, "group"), what, ", ".join(groups), also)
        elif "nginx" not in groups[balancer.group].service_names:
            what = f"group {balancer.group!r} has no service 'nginx'"
            yield Problem((*loc, "group"), what, "", also)
        name = balancer.name or balancer.group
        if name in seen:
            yield Problem((*loc, "name"), f"there are two balancers named {name!r}")
        seen.add(name)
        paths: set[str] = set()
        for number, route in enumerate(balancer.routes):
            where = (*loc, "routes", number)
            if route.to not in groups:
                what = f"there is no group {route.to!r}"
                yield Problem((*where, "to"), what, ", ".join(groups), also)
            if route.path in paths:
                yield Problem((*where, "path"), f"{route.path!r} stands twice")
            paths.add(route.path)


def _regions(lab: LabFile) -> Iterator[Problem]:
    names = [region.name for region in lab.regions]
    for index, region in enumerate(lab.regions):
        if region.name in names[:index]:
            what = f"there are two regions named {region.name!r}"
            yield Problem(("regions", index, "name"), what)
        for other in region.links:
            if other not in names or other == region.name:
                allowed = ", ".join(name for name in names if name != region.name)
                what = f"there is no other region {other!r}"
                yield Problem(("regions", index, "links", other), what, allowed, (("regions",),))
    for index, group in enumerate(lab.groups):
        if group.region is not None and names and group.region not in names:
            what = f"there is no region {group.region!r}"
            yield Problem(("groups", index, "region"), what, ", ".join(names), (("regions",),))


def _app(lab: LabFile) -> Iterator[Problem]:
    app = lab.app
    if app.command is not None and app.image is not None:
        yield Problem(("app", "image"), "there is a command too", "one of the two")
    if app.image is not None and lab.driver == "local":
        yield Problem(("app", "image"), "driver local runs no containers", "a command")
    try:
        shlex.split(app.command or "")
    except ValueError as error:
        yield Problem(("app", "command"), f"cannot be split into words: {error}")
    for name, value in app.env.items():
        where: Loc = ("app", "env", name)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            allowed = "letters, digits and underscores"
            yield Problem(where, "not a name of an environment variable", allowed)
        if value.startswith(SECRET_PREFIX) and not is_name(value.removeprefix(SECRET_PREFIX)):
            yield Problem(where, f"got {value!r}", "secret:NAME, of small letters, digits, hyphens")


_CHECKS: tuple[Callable[[LabFile], Iterator[Problem]], ...] = (
    _groups,
    _scalings,
    _balancers,
    _regions,
    _app,
)
