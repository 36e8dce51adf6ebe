"""Labs made of machines that are there already: Vagrant's, or anybody's.

 adopt ──▶ begun: rows, leases, keys and marks ──▶ every seed delivered (by labctl) ──▶ finish: up

Each step may be called again. A lab whose adoption is begun is known and can be destroyed, which
releases its machines; until all of them know what they are, nothing starts or stops them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labcore.clock import rfc3339
from labcore.errors import Conflict, UsageProblem
from labcore.services import SSH_PORT, Service
from labcore.wire.lab import AdoptedNode, Desired, Group, PowerState, Wanted
from labcore.wire.node import SCALER_TOKEN
from server_manager.core import Core
from server_manager.drivers.adopting import Adopting, OutsideMachine
from server_manager.labspec import LabSpec, from_file, member_name, most_servers
from server_manager.operations import Operations
from server_manager.registry import Adoption, GroupWish, LabRecord, ServerRecord
from server_manager.runs import Runs

Found = Mapping[str, OutsideMachine]  # by node


class Adoptions:
    """The use cases around machines that we did not make."""

    def __init__(self, core: Core, operations: Operations, runs: Runs) -> None:
        self._core = core
        self._operations = operations
        self._runs = runs

    def adopt(self, name: str, data: object, machines: Mapping[str, str]) -> list[AdoptedNode]:
        """Register machines (node -> name or id) as the lab of a lab file, and mark them.

        The file's counts, sizes and network become those of the machines. Again: machines that
        joined are added, those that are not named any more are released. Raises UsageProblem,
        NotFound, and Conflict for a lab or a machine that is not free for it.
        """
        driver = self._driver(data)
        found = {node: driver.outside(machine) for node, machine in machines.items()}
        spec = from_file(fitted(data, name, found), name)
        ports = _ports(spec, found)
        self._release_gone(name, found)
        with self._core.database.transaction():
            self._write(spec, found, ports)
        lab = self._core.labs.get(name)
        rows = self._core.servers.of(name)
        for row in rows:
            self._operations.adopt(lab, row)
        return [
            AdoptedNode(
                node=row.name,
                machine=found[row.name].name,
                id=row.id,
                hardware_id=found[row.name].hardware_id,
                ssh_port=ports[row.name]["ssh"],
            )
            for row in rows
        ]

    def seed(self, name: str, node: str) -> bytes:
        """What a machine must be given to be a node, as a tar. Raises NotFound and Conflict."""
        lab = self._adopted(name)
        row = self._core.servers.get(name, node)
        return self._adopting(lab.spec.driver).seed(self._core.server_spec(lab, row)).tar()

    def finish(self, name: str) -> int:
        """Every machine has its seed: want the lab up; the run's number."""
        with self._core.database.transaction():
            lab = self._adopted(name)
            joined = self._runs.joined(lab, Desired.UP)
            if joined is not None:
                return joined
            self._core.labs.set_adoption(name, Adoption.DONE, None)
            run = self._runs.write(lab, Desired.UP)
        self._runs.start(run)
        return run.number

    def _driver(self, data: object) -> Adopting:
        wanted = data.get("driver") if isinstance(data, Mapping) else None
        return self._adopting(str(wanted))

    def _adopting(self, name: str) -> Adopting:
        driver = self._core.drivers.get(name)
        if not driver.capabilities().adopt:
            raise UsageProblem(f"driver {name!r} cannot adopt machines", "virtualbox can")
        return driver  # type: ignore[return-value]  # what the capability promises

    def _adopted(self, name: str) -> LabRecord:
        lab = self._core.labs.get(name)
        if not lab.is_adopted:
            raise Conflict(
                f"lab {name!r} was not adopted: labctl made it itself",
                f"labctl destroy --lab {name} removes it",
            )
        return lab

    # ------------------------------------------------------------------ the rows of the registry

    def _release_gone(self, name: str, found: Found) -> None:
        """Let go of the machines that a lab had and is not to have any more."""
        lab = self._core.labs.find(name)
        if lab is None or not lab.is_adopted or lab.running:
            return
        for row in self._core.servers.of(name):
            if row.name not in found or found[row.name].id != row.id:
                self._operations.release(lab, row)
                self._core.servers.remove(row)

    def _write(self, spec: LabSpec, found: Found, ports: Mapping[str, Mapping[str, int]]) -> None:
        """Write a lab with its servers and leases."""
        self._write_lab(spec)
        for group in spec.groups:
            for index in range(1, most_servers(group) + 1):
                node = member_name(group, index)
                self._check_free(spec.lab, node, found[node])
                row = self._core.servers.add(spec.lab, group.name, index, node, found[node].id)
                self._core.servers.want(row, Wanted.ON)
        self._core.ports.take_over(spec.lab, ports)

    def _write_lab(self, spec: LabSpec) -> None:
        core, lab = self._core, self._core.labs.find(spec.lab)
        if lab is None:
            core.events.forget(spec.lab)
            core.labs.add(spec, rfc3339(core.clock.now()), Desired.DOWN)
        elif not lab.is_adopted:
            raise Conflict(
                f"there is a lab {spec.lab!r} already, which labctl made itself",
                "--lab gives the machines another name",
            )
        elif lab.running or lab.desired is Desired.DESTROYED:
            raise Conflict(
                f"lab {spec.lab!r} is on its way to be {lab.desired}",
                f"labctl destroy --lab {spec.lab} releases its machines",
            )
        else:
            core.labs.set_spec(spec)
        for group in spec.groups:
            core.labs.set_wish(spec.lab, group.name, GroupWish(group.desired_count, group.mode))
        core.secrets.of(spec.lab)
        problem = f"its adoption is not finished: labctl adopt --lab {spec.lab} goes on"
        core.labs.set_adoption(spec.lab, Adoption.BEGUN, problem)

    def _check_free(self, lab: str, node: str, machine: OutsideMachine) -> None:
        owner = self._core.servers.by_id(machine.id)
        if owner is not None and (owner.lab, owner.name) != (lab, node):
            raise Conflict(
                f"machine {machine.name!r} is {owner.lab}/{owner.name} already",
                f"labctl destroy --lab {owner.lab} releases it",
            )


def check_size(lab: LabRecord, spec: LabSpec, servers: tuple[ServerRecord, ...]) -> None:
    """Raise Conflict unless an adopted lab stays as large as its machines are many. Pure."""
    if lab.adoption is Adoption.BEGUN:
        raise Conflict(
            f"lab {lab.name!r} is not wholly adopted yet", f"labctl adopt --lab {lab.name} goes on"
        )
    for group in spec.groups if lab.is_adopted else ():
        count = sum(server.group == group.name for server in servers)
        if most_servers(group) != count:
            raise Conflict(
                f"group {group.name!r} of lab {lab.name!r} has {count} adopted machines, and"
                f" labctl makes no others: it cannot become {most_servers(group)}",
                f"set scaling.max to {count}, with no standby; or make more, then labctl adopt",
            )
        if group.scaling and group.scaling.removal == "destroy":
            raise Conflict(
                f"the machines of lab {lab.name!r} are adopted: labctl never destroys them",
                "set scaling.removal to power_off",
            )


def fitted(data: object, name: str, found: Found) -> dict[str, Any]:
    """A lab file that says of each group what its machines are. Pure.

    Raises UsageProblem if they are not the nodes of the file's groups, numbered from 1.
    """
    # Imported here: pydantic is only needed when a lab file arrives.
    from server_manager import labfile

    given = {**data, "lab": data.get("lab", name)} if isinstance(data, Mapping) else data
    file = labfile.validate(given)
    fit = labfile.to_json(file)
    fit.pop("image", None)  # nothing is made of one
    left = set(found)
    for group, values in zip(labfile.to_wire(file).groups, fit["groups"], strict=True):
        mine = _members(group, found)
        left -= set(mine)
        machine = found[mine[0]]
        values.update(count=len(mine), cpus=machine.cpus, memory_mib=machine.memory_mib)
        scaling = fit["scaling"] if group.name == file.scaled_group() else values.get("scaling")
        if scaling is not None:
            scaling.update(max=len(mine), min=min(len(mine), scaling["min"]))
            scaling.update(standby=0, removal="power_off")
    if left:
        groups = ", ".join(group.name for group in file.groups)
        raise UsageProblem(
            f"no group of lab {name!r} has a node {', '.join(sorted(left))}", f"groups: {groups}"
        )
    networks = {machine.network for machine in found.values()}
    fit["network"] = "internal" if len(networks) == 1 and "" not in networks else "nat"
    return fit


def _members(group: Group, found: Found) -> list[str]:
    """The nodes of a group, in order."""
    pattern = re.compile(rf"{re.escape(group.name)}(-\d+)?")
    named = {node for node in found if pattern.fullmatch(node)}
    if not named:
        raise UsageProblem(
            f"group {group.name!r} has no machine: an adopted lab needs one for every group",
            f"--vm {member_name(group, 1)}=NAME",
        )
    members = [member_name(group, index) for index in range(1, len(named) + 1)]
    if named != set(members):
        raise UsageProblem(
            f"group {group.name!r}: the nodes {', '.join(sorted(named))} are not"
            f" {', '.join(members)}",
            "number them from 1, without a gap",
        )
    return members


def _ports(spec: LabSpec, found: Found) -> dict[str, dict[str, int]]:
    """The host port of every service of every node; raises UsageProblem naming all that lack."""
    ports: dict[str, dict[str, int]] = {}
    problems = []
    for node, machine in found.items():
        services = _services(spec, node)
        ports[node] = {}
        if machine.state is not PowerState.RUNNING:
            problems.append(f"{node}: machine {machine.name!r} is {machine.state}, not running")
        if not machine.reaches_host and any(SCALER_TOKEN in s.secrets for s in services):
            problems.append(f"{node}: {machine.name!r} cannot reach the server-manager on the host")
        inside = {s.name: s.port for s in services if s.port is not None} | {"ssh": SSH_PORT}
        for service, port in inside.items():
            if port in machine.forwards:
                ports[node][service] = machine.forwards[port]
            else:
                problems.append(f"{node}: {machine.name!r} forwards no port to {port}, {service}")
    if problems:
        raise UsageProblem(
            f"these machines cannot be lab {spec.lab!r}",
            "make them as the Vagrantfile does: docs/vagrant.md",
            tuple(problems),
        )
    return ports


def _services(spec: LabSpec, node: str) -> tuple[Service, ...]:
    """What runs on a node."""
    for group in spec.groups:
        if node in (member_name(group, i) for i in range(1, most_servers(group) + 1)):
            return spec.services[group.name]
    return ()
