"""What a lab consists of, as the registry keeps it: derived once from a validated lab file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from labcore.errors import Conflict, NotFound, UsageProblem
from labcore.names import node_name
from labcore.services import Service
from labcore.wire.lab import Balancer, Group

MOST_AGENTS = 99  # the port formula of the contract holds up to agent-99


@dataclass(frozen=True)
class LabSpec:
    """A lab without its state. `desired_count` and `mode` of a group are those at creation."""

    lab: str
    driver: str
    groups: tuple[Group, ...]
    balancers: tuple[Balancer, ...]
    services: Mapping[str, tuple[Service, ...]]  # by group, the user's app in place of ours
    file: Mapping[str, object] = field(default_factory=dict)  # the lab file it was made from
    network: Literal["internal", "nat"] = "internal"  # between virtual machines
    image: str | None = None  # the name of what its servers are made from, chosen when it was made
    boot_limit_s: float | None = None  # where the driver's own would be too short, or too long

    @property
    def settings(self) -> Mapping[str, object]:
        """What the lab file says to its driver, in the section that has the driver's name."""
        section = self.file.get(self.driver)
        return section if isinstance(section, Mapping) else {}

    def group(self, name: str) -> Group:
        """The group of that name; raises NotFound."""
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.groups)
        raise NotFound(f"lab {self.lab!r} has no group {name!r}", f"groups: {known}")


def from_file(data: object, name: str) -> LabSpec:
    """The spec of the lab `name` from a lab file as JSON; raises UsageProblem naming all faults."""
    # Imported here: pydantic is only needed when a lab file arrives.
    from server_manager import labfile

    given = {**data, "lab": data.get("lab", name)} if isinstance(data, Mapping) else data
    lab = labfile.validate(given)
    if lab.lab != name:
        raise UsageProblem(f"the lab file is for {lab.lab!r}, not for {name!r}")
    wire = labfile.to_wire(lab)
    return LabSpec(
        lab=name,
        driver=lab.driver,
        groups=wire.groups,
        balancers=wire.balancers,
        services=wire.services,
        file=labfile.to_json(lab),
        network=lab.network,
        image=lab.image,
        boot_limit_s=lab.boot_limit_s,
    )


def most_servers(group: Group) -> int:
    """How many servers a group may have at once, as the lab file says."""
    return group.scaling.max + group.scaling.standby if group.scaling else group.desired_count


def member_name(group: Group, index: int) -> str:
    """The name of member `index` of a group: `control`, or `agent-3`."""
    single = group.scaling is None and group.role == "control" and group.desired_count == 1
    return node_name(group.name, index, single)


def check_change(old: LabSpec, new: LabSpec) -> None:
    """Raise Conflict unless a lab that stands can become `new` without being made again.

    What can change: scaling rules, routes, and groups that are added.
    """
    problems = []
    if old.driver != new.driver:
        problems.append(f"driver: {old.driver} -> {new.driver}")
    for part in ("app", "image", "network", "regions", "incus"):
        if old.file.get(part) != new.file.get(part):
            problems.append(f"{part} differs")
    kept = {group.name: group for group in new.groups}
    for group in old.groups:
        problems += _group_changes(group, kept.get(group.name))
    if _listeners(old) != _listeners(new):
        problems.append("a balancer differs in more than its routes")
    if problems:
        raise Conflict(
            f"lab {old.lab!r} stands and cannot become that: {'; '.join(problems)}",
            f"labctl destroy --lab {old.lab}, then labctl up",
            tuple(problems),
        )


def _group_changes(old: Group, new: Group | None) -> list[str]:
    if new is None:
        return [f"group {old.name} is removed"]
    fixed = ("role", "region", "services", "cpus", "memory_mib")
    changed = [part for part in fixed if getattr(old, part) != getattr(new, part)]
    if old.scaling is None and new.scaling is None and old.desired_count != new.desired_count:
        changed.append("count")
    if (old.scaling is None) != (new.scaling is None):
        changed.append("scaling (to have it or not)")
    return [f"group {old.name}: {part} differs" for part in changed]


def _listeners(spec: LabSpec) -> list[tuple[str, str, int, bool]]:
    return [(b.name, b.group, b.port, b.tls) for b in spec.balancers]
