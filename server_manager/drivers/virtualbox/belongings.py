"""Which machine is a server's, and whether all that says so agrees."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from labcore.errors import Conflict, DriverFailed, LabError, NotFound
from labcore.names import is_name
from labcore.wire.lab import PowerState
from server_manager.drivers.base import DriverServer, ServerRef, ServerSpec, Stray
from server_manager.drivers.virtualbox import settings
from server_manager.drivers.virtualbox.folder import Folder, Record
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import INACCESSIBLE, Machine
from server_manager.drivers.virtualbox.states import meaning


@dataclass(frozen=True)
class Found:
    """What there is of a server: nothing, if `record` and `machine` are None."""

    ref: ServerRef
    uuid: str
    folder: Folder
    record: Record | None
    machine: Machine | None
    is_anothers: bool = False  # the folder has another id: never touched

    @property
    def spec(self) -> ServerSpec | None:
        """What it was made from; None if it is half made."""
        return self.record.spec if self.record else None

    @property
    def is_adopted(self) -> bool:
        """Whether somebody else made the machine: its settings and disks are not ours."""
        return self.record is not None and self.record.adopted

    def told(self) -> DriverServer:
        """The same as the core wants it."""
        if self.machine is None or self.is_anothers:
            return DriverServer(self.ref, PowerState.ABSENT)
        what = meaning(self.machine.state)
        state, problem = what.power, self.machine.problem or what.problem
        if self.spec is None and state is PowerState.STOPPED:
            state, problem = PowerState.ERROR, "it is half made: destroy it"
        return DriverServer(
            self.ref,
            state,
            endpoints=settings.endpoints(self.spec) if self.spec else {},
            problem=problem,
            directory=self.folder.path,
        )


class Belongings:
    """Looks servers up, by their ids: from there to a UUID, and from that to a machine."""

    def __init__(self, node_directory: Callable[[ServerRef], Path], library: Library) -> None:
        self._node_directory = node_directory
        self._library = library

    def find(self, ref: ServerRef) -> Found:
        """What there is of a server now."""
        folder = Folder(self._node_directory(ref))
        record = folder.record()
        if record is not None and record.ref != ref:
            uuid = settings.machine_uuid(ref)
            return Found(ref, uuid, folder, None, None, is_anothers=True)
        uuid = record.machine if record else settings.machine_uuid(ref)
        return Found(ref, uuid, folder, record, self._library.find(uuid))

    def existing(self, ref: ServerRef) -> tuple[Found, Machine]:
        """The same with its machine; raises NotFound without one."""
        found = self.find(ref)
        if found.machine is None:
            raise NotFound(f"server {ref.lab}/{ref.name} does not exist")
        return found, found.machine

    def of_lab(
        self, lab: str, list_all: Callable[[], tuple[Machine, ...]]
    ) -> tuple[DriverServer, ...]:
        """All servers of a lab, in one call of VBoxManage. One that cannot be read has no id."""
        records = tuple(self._records(lab))
        if not records:
            return ()
        machines = {machine.uuid: machine for machine in list_all()}
        return tuple(_told(entry, machines) for entry in records)

    def _records(self, lab: str) -> Iterator[tuple[Folder, Record] | DriverServer]:
        parent = self._node_directory(ServerRef(lab, "x", "")).parent
        try:
            names = sorted(entry.name for entry in parent.iterdir() if is_name(entry.name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DriverFailed(f"cannot list {parent}: {error}") from error
        for name in names:
            place = ServerRef(lab, name, "")
            folder = Folder(self._node_directory(place))
            try:
                record = folder.record()
            except LabError as error:
                yield DriverServer(place, PowerState.UNKNOWN, problem=error.message)
                continue
            if record is not None and (record.ref.lab, record.ref.name) == (lab, name):
                yield folder, record

    def strays(self, labs: Collection[str]) -> tuple[Stray, ...]:
        """Machines whose settings lie where those of labs do that are none of `labs`."""
        nodes = self._node_directory(ServerRef("lab", "node", "")).parent
        depth = len(nodes.parts)
        found = []
        for machine in self._library.all():
            path = Path(machine.settings).parts
            # <labs>/<lab>/nodes/<node>/...
            is_below = path[: depth - 2] == nodes.parts[:-2] and len(path) > depth
            if is_below and path[depth - 1] == nodes.name and path[depth - 2] not in labs:
                remove = f"VBoxManage unregistervm {machine.uuid} --delete"
                found.append(Stray(machine.name, path[depth - 2], remove))
        return tuple(found)

    def check_owned(self, found: Found, machine: Machine) -> None:
        """Raise Conflict unless the marks of a machine agree with its UUID and our records.

        One that is half made is ours by its UUID and its folder: it has those marks that it
        inherited from its image. So is one whose settings file, where its marks are, is gone.
        """
        is_here = found.folder.contains(machine.settings)
        if machine.state == INACCESSIBLE and is_here:
            return
        marks = self._library.extradata(machine.uuid)
        ours = {key: value for key, value in marks.items() if key.startswith("labctl/")}
        wanted = settings.whose(found.ref, machine.uuid)
        if all(ours.get(key) == value for key, value in wanted.items()):
            return
        half_made = found.spec is None and is_here
        if not half_made or ours.get(settings.SERVER, found.ref.id) != found.ref.id:
            raise Conflict(
                f"the marks of virtual machine {machine.name} say that it is another's: it was"
                " left alone",
                f"look at VBoxManage getextradata {machine.uuid} enumerate",
                tuple(f"{key}: {value}" for key, value in sorted(ours.items())),
            )


def _told(
    entry: tuple[Folder, Record] | DriverServer, machines: Mapping[str, Machine]
) -> DriverServer:
    if isinstance(entry, DriverServer):
        return entry
    folder, record = entry
    machine = machines.get(record.machine)
    return Found(record.ref, record.machine, folder, record, machine).told()
