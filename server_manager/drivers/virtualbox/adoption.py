"""Machines that others made: Vagrant's, or anybody's. They are noted and marked, no more.

An adopted machine has a record in the folder of its server, as all servers have, that says so; and
the marks, without the digest of a spec, which only machines have that we made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from labcore.errors import Conflict, DriverFailed, NotFound
from server_manager.drivers.adopting import OutsideMachine
from server_manager.drivers.base import Capabilities, ServerRef, ServerSpec
from server_manager.drivers.virtualbox import settings
from server_manager.drivers.virtualbox.belongings import Belongings, Found
from server_manager.drivers.virtualbox.builders import IMAGE
from server_manager.drivers.virtualbox.folder import Record
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import Machine
from server_manager.drivers.virtualbox.states import meaning
from server_manager.guest.seed import Seed, make_seed

# Of a forward: where 127.0.0.1 is listened on too.
_LOOPBACK = ("", "0.0.0.0", settings.LOOPBACK)  # noqa: S104 - what VirtualBox may say


class VirtualBoxAdoption:
    """See Adopting. A mixin of the driver, which says where VirtualBox and the files are."""

    _make_library: Callable[[], Library]
    _node_directory: Callable[[ServerRef], Path]
    _capabilities: Capabilities

    def outside(self, machine: str) -> OutsideMachine:
        """See Adopting."""
        library = self._make_library()
        found = find_machine(library, machine)
        marks = library.extradata(found.uuid)
        # What only servers and images of ours have; a copy made in the GUI tells another UUID.
        is_made = settings.SPEC in marks or IMAGE in marks
        if is_made and marks.get(settings.UUID) == found.uuid:
            raise Conflict(
                f"machine {found.name!r} was made by labctl itself, as a server or an image",
                "only machines that others made are adopted",
            )
        return described(found)

    def adopt(self, spec: ServerSpec) -> None:
        """See Adopting."""
        library = self._make_library()
        found = Belongings(self._node_directory, library).find(spec.ref)
        if found.is_anothers:
            raise Conflict(f"{found.folder.path} belongs to another server", "destroy that first")
        machine = find_machine(library, spec.ref.id)
        wanted = settings.whose(spec.ref, machine.uuid)
        marks = library.extradata(machine.uuid)
        # A copy made in the GUI has the marks of the original, and says so by the UUID in them.
        is_marked = marks.get(settings.UUID) == machine.uuid
        if is_marked and any(marks.get(key, value) != value for key, value in wanted.items()):
            raise Conflict(
                f"machine {machine.name!r} is marked as {marks.get(settings.LAB)}/"
                f"{marks.get(settings.NODE)} of some labctl",
                "release it there; if that is gone, VBoxManage setextradata"
                f" {machine.uuid} {settings.UUID}",
            )
        found.folder.note(Record(spec.ref, machine.uuid, spec, adopted=True))
        library.mark(machine.uuid, wanted)
        kept = library.extradata(machine.uuid)
        if any(kept.get(key) != value for key, value in wanted.items()):
            raise DriverFailed(
                f"VirtualBox did not keep the marks of {machine.name!r}", "try again"
            )

    def release(self, ref: ServerRef) -> None:
        """See Adopting."""
        library = self._make_library()
        found = Belongings(self._node_directory, library).find(ref)
        if found.record is None or found.is_anothers:
            return
        if not found.is_adopted:
            raise Conflict(f"{ref.lab}/{ref.name} is not adopted", "destroy removes it")
        if found.machine is not None:
            marks = library.extradata(found.machine.uuid)
            wanted = settings.whose(ref, found.machine.uuid)
            ours = [key for key, value in wanted.items() if marks.get(key) == value]
            library.unmark(found.machine.uuid, ours)
        found.folder.remove()

    def seed(self, spec: ServerSpec) -> Seed:
        """See Adopting. Its second NIC has a MAC that its maker chose."""
        network = settings.guest_network(spec)
        if network.mac is not None:
            machine = find_machine(self._make_library(), spec.ref.id)
            digits = machine.info.get("macaddress2", "").lower()
            mac = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
            network = dataclasses.replace(network, mac=mac)
        return make_seed(spec, self._capabilities, network)


def check_made_by_us(found: Found) -> None:
    """Raise Conflict for an adopted machine: it is never made, remade or removed by us."""
    if found.is_adopted:
        raise Conflict(
            f"the machine of {found.ref.lab}/{found.ref.name} is adopted: its maker alone makes it"
            " anew or removes it",
            "labctl destroy releases it",
        )


def find_machine(library: Library, name: str) -> Machine:
    """The machine of that name or UUID. Raises NotFound, and Conflict where several share a name:
    `showvminfo` would take the first."""
    found = [uuid for uuid, other in library.names().items() if name in (uuid, other)]
    machine = library.find(found[0]) if len(found) == 1 else None
    if machine is not None:
        return machine
    if found:
        raise Conflict(f"{len(found)} machines are called {name!r}", "give the UUID of one")
    raise NotFound(
        f"VirtualBox has no machine {name!r}", "VBoxManage list vms shows those of this user"
    )


def described(machine: Machine) -> OutsideMachine:
    """A machine as the core wants to know it. Pure."""
    info = machine.info
    return OutsideMachine(
        id=machine.uuid,
        hardware_id=info.get("hardwareuuid", machine.uuid),
        name=machine.name,
        state=meaning(machine.state).power,
        cpus=float(info.get("cpus", "1")),
        memory_mib=int(info.get("memory", "512")),
        forwards={
            rule.guest_port: rule.host_port
            for rule in machine.rules
            if rule.protocol == "tcp" and rule.host_ip in _LOOPBACK
        },
        network=info.get("intnet2", "") if info.get("nic2") == "intnet" else "",
        reaches_host=info.get("localhostReachable") in ("1", "on"),
    )
