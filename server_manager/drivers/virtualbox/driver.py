"""The driver `virtualbox`: every server is a linked clone of an image, with a seed in its drive.

A server's machine has a UUID that is made from the server's id, and extradata that says the same;
names decide nothing. A machine that does not agree in all of it is never changed. What VirtualBox
says is looked at again after each change, since it often says nothing at all.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from labcore.clock import Clock
from labcore.errors import Conflict, DriverFailed, LabError, NotFound
from labcore.files import tail
from labcore.wire.lab import PowerState
from server_manager.drivers.base import (
    Capabilities,
    DriverHealth,
    DriverServer,
    ImageSupport,
    ServerRef,
    ServerSpec,
    Stray,
    may_take_over,
    sealed,
)
from server_manager.drivers.virtualbox import settings
from server_manager.drivers.virtualbox.adoption import VirtualBoxAdoption, check_made_by_us
from server_manager.drivers.virtualbox.belongings import Belongings, Found
from server_manager.drivers.virtualbox.bindings import Bindings
from server_manager.drivers.virtualbox.clones import Clones, check_name_is_free
from server_manager.drivers.virtualbox.converting import Converter
from server_manager.drivers.virtualbox.discovery import find_program
from server_manager.drivers.virtualbox.folder import Folder, Record
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.live import VirtualBoxLive
from server_manager.drivers.virtualbox.machines import EMPTY, Machine
from server_manager.drivers.virtualbox.power import Power, vbox_log
from server_manager.drivers.virtualbox.states import meaning
from server_manager.drivers.virtualbox.together import Together
from server_manager.drivers.virtualbox.vboxmanage import VBoxManage
from server_manager.guest.seed import make_seed

BOOT_LIMIT_S = 300.0
STOP_MARGIN_S = 20.0  # for the guest's own way down, on top of its services' grace
OLDEST = (7, 0)
SERIAL, VBOX = "console", "virtualbox"  # what console_log calls the two logs there are


class VirtualBoxDriver(VirtualBoxLive, VirtualBoxAdoption):
    """See Driver, Pausing, ConsoleLog, ImageMaking, LiveMaking and Adopting."""

    name = "virtualbox"

    def __init__(
        self,
        node_directory: Callable[[ServerRef], Path],
        *,
        image_directory: Callable[[str], Path],
        clock: Clock,
        library: Callable[[], Library],
        search_path: str = "",
        stop_margin_s: float = STOP_MARGIN_S,
    ) -> None:
        self._node_directory = node_directory
        self._clock = clock
        self._image_directory = image_directory
        self._make_library = library
        self._converter = Converter(search_path)
        self._stop_margin_s = stop_margin_s
        # Scalers, status and waits all ask for the list; ten at a time would starve each other.
        self._lists: Together[tuple[Machine, ...]] = Together()
        self._capabilities = Capabilities(
            shares_host_network=False,
            scope="system",
            access="ssh",
            gates=("created", "booted", "configured", "ssh", "healthy", "serving"),
            boot_limit_s=BOOT_LIMIT_S,
            look_s=0.05,  # a look is a program that runs for as long
            pause=True,
            console_log=True,
            adopt=True,
            images=ImageSupport("disk", "ssh", live=True),
        )

    def health(self) -> DriverHealth:
        """See Driver. Its version, and whether VirtualBox's service answers."""
        try:
            library = self._make_library()
            version = library.vbox.read("--version").strip()
            library.names()
        except LabError as error:
            return DriverHealth(False, "", error.message, error.hint)
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or tuple(map(int, numbers.groups())) < OLDEST:
            return DriverHealth(
                False, version, f"VirtualBox {version} is older than 7.0", "install VirtualBox 7"
            )
        return DriverHealth(True, f"VirtualBox {version}")

    def capabilities(self) -> Capabilities:
        """See Driver."""
        return self._capabilities

    def create(self, spec: ServerSpec) -> None:
        """See Driver. Raises NotFound if its image is gone, Conflict if its name is taken."""
        belongings, library = self._belongings()
        found = belongings.find(spec.ref)
        if found.is_anothers:
            raise Conflict(f"{found.folder.path} belongs to another server", "destroy that first")
        check_made_by_us(found)
        if found.machine is not None and found.record is not None and found.spec is not None:
            belongings.check_owned(found, found.machine)
            self._take_over(found.folder, found.record, found.spec, spec)
            return
        if found.machine is None:
            check_name_is_free(library.names(), spec, found.uuid)
        seed = make_seed(spec, self._capabilities, settings.guest_network(spec))
        self._remove_machine(belongings, library, found)
        found.folder.note(Record(spec.ref, found.uuid))
        found.folder.write_seed(seed)
        Clones(library).make(spec, found.uuid, found.folder)
        found.folder.note(Record(spec.ref, found.uuid, spec))

    def _take_over(self, folder: Folder, record: Record, old: ServerSpec, new: ServerSpec) -> None:
        if old == sealed(new):
            return
        if not may_take_over(old, sealed(new)):
            raise Conflict(f"{new.ref.name} exists and was made otherwise", "destroy it first")
        folder.write_seed(make_seed(new, self._capabilities, settings.guest_network(new)))
        folder.note(dataclasses.replace(record, spec=new))

    def start(self, ref: ServerRef) -> None:
        """See Driver. Raises Conflict if a port of it is taken, or while it goes down."""
        belongings, library = self._belongings()
        found, machine = belongings.existing(ref)
        what = meaning(machine.state)
        waits = _waits_for_seed(found, machine)
        if what.start == "nothing" and not waits:
            return
        belongings.check_owned(found, machine)
        if what.start == "refuse":
            why = f"{ref.name} is {what.power}" + (f": {what.problem}" if what.problem else "")
            raise Conflict(why, "wait until it is off, or destroy it")
        if found.spec is None:
            raise DriverFailed(f"{ref.name} is half made", "destroy it and make it again")
        if what.start == "resume":
            Power(library, self._clock).resume(machine)
        elif what.start == "boot":
            self._boot(library, found, machine, found.spec)
        if waits:
            Clones(library).insert(machine, found.folder)

    def _boot(self, library: Library, found: Found, machine: Machine, spec: ServerSpec) -> None:
        power = Power(library, self._clock)
        if not found.is_adopted:
            is_saved = meaning(machine.state).power is PowerState.SAVED
            differs = machine.rules != settings.rules(spec.forwards)
            if is_saved and differs and not _waits_for_seed(found, machine):
                power.discard(machine)  # the settings of a saved machine cannot change
            Clones(library).forward(machine, spec)
        power.boot(machine, found.folder)

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        """See Driver: the power button, and the plug when the grace is over."""
        belongings, library = self._belongings()
        found = belongings.find(ref)
        if found.machine is None or meaning(found.machine.state).stop == "nothing":
            return
        belongings.check_owned(found, found.machine)
        self._turn_off(library, found, found.machine, force=force)

    def destroy(self, ref: ServerRef) -> None:
        """See Driver. Raises Conflict if disks of others are clones of its disk."""
        belongings, library = self._belongings()
        found = belongings.find(ref)
        if found.is_anothers or (found.machine is None and not found.folder.path.exists()):
            return
        check_made_by_us(found)
        self._remove_machine(belongings, library, found)
        found.folder.remove()

    def get(self, ref: ServerRef) -> DriverServer:
        """See Driver."""
        try:
            belongings, _ = self._belongings()
            return belongings.find(ref).told()
        except LabError as error:
            return DriverServer(ref, PowerState.UNKNOWN, problem=error.message)

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        """See Driver."""
        belongings, library = self._belongings()
        return belongings.of_lab(lab, lambda: self._lists.ask(library.all))

    def strays(self, labs: Collection[str]) -> tuple[Stray, ...]:
        """See StrayFinding. Only machines below this state directory: others have others'."""
        belongings, _ = self._belongings()
        return belongings.strays(labs)

    def pause(self, ref: ServerRef) -> None:
        """See Pausing."""
        self._freeze(ref, frozen=True)

    def resume(self, ref: ServerRef) -> None:
        """See Pausing."""
        self._freeze(ref, frozen=False)

    def _freeze(self, ref: ServerRef, *, frozen: bool) -> None:
        belongings, library = self._belongings()
        found, machine = belongings.existing(ref)
        state = meaning(machine.state).power
        if state not in (PowerState.RUNNING, PowerState.PAUSED):
            raise Conflict(f"{ref.name} is {state}", "start it first")
        belongings.check_owned(found, machine)
        power = Power(library, self._clock)
        if frozen and state is not PowerState.PAUSED:
            power.pause(machine)
        elif not frozen and state is not PowerState.RUNNING:
            power.resume(machine)

    def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
        """See ConsoleLog. None: the end of both, each line behind the name of its log."""
        belongings, _ = self._belongings()
        found, machine = belongings.existing(ref)
        logs = {VBOX: vbox_log(machine), SERIAL: machine.serial or found.folder.serial}
        if source is None:
            share = max(1, lines // len(logs))
            return tuple(f"{name} | {line}" for name in logs for line in tail(logs[name], share))
        if source not in logs:
            raise NotFound(
                f"{ref.name} has no log {source!r} that the host can read",
                f"known: {', '.join(logs)}; labctl logs reads the others by SSH",
            )
        return tail(logs[source], lines)

    def _belongings(self) -> tuple[Belongings, Library]:
        library = self._make_library()
        return Belongings(self._node_directory, library), library

    def _turn_off(
        self,
        library: Library,
        found: Found,
        machine: Machine,
        *,
        force: bool,
    ) -> None:
        """A machine that is ours."""
        what = meaning(machine.state).stop
        if what == "nothing":
            return
        if what == "refuse":
            raise DriverFailed(
                f"{found.ref.name} is {machine.state}, a state that labctl does not know",
                "turn it off in VirtualBox",
            )
        power = Power(library, self._clock)
        if what == "discard":
            if not _waits_for_seed(found, machine):
                power.discard(machine)
            return
        if what == "ask" and not force:
            services = found.spec.services if found.spec else ()
            grace_s = max((s.stop_grace_s for s in services), default=0.0)
            power.ask(machine, grace_s + self._stop_margin_s)
        power.cut(machine)

    def _remove_machine(self, belongings: Belongings, library: Library, found: Found) -> None:
        if found.machine is not None:
            belongings.check_owned(found, found.machine)
            self._turn_off(library, found, found.machine, force=True)
        if found.machine is not None or found.folder.path.exists():
            Clones(library).remove(found.machine, found.folder)


def _waits_for_seed(found: Found, machine: Machine) -> bool:
    """Whether it is a clone of a live image that has not met its seed: a disc goes in only while a
    machine runs, so its drive is empty until then."""
    return machine.disc == EMPTY and not found.is_adopted


def find_library(
    search_path: str, environ: Mapping[str, str], user_directory: Path, clock: Clock
) -> Callable[[], Library]:
    """What asks the VirtualBox of this machine, looked for each time: it may be installed late."""
    lock = user_directory / "virtualbox.lock"
    bindings = Bindings(search_path, environ, clock)

    def library() -> Library:
        program = find_program(
            platform.system(), search_path, environ, lambda name: os.access(name, os.X_OK)
        )
        return Library(VBoxManage(program, lock=lock, clock=clock), bindings)

    return library
