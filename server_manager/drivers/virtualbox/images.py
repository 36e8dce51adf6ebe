"""Images of VirtualBox: a machine of ours with one disk, of which servers are linked clones.

absent ──▶ disk.vdi ──▶ machine (the builder) ──▶ … ──▶ snapshot `labctl`: finished

The UUID of the machine is the id of the image; `image.json` in its folder says whose that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labcore.clock import Clock
from labcore.codec import WireError, decode, encode
from labcore.errors import Conflict, DriverFailed, NotFound
from labcore.files import read_json, tail, write_json
from labcore.wire.lab import PowerState
from server_manager.drivers.imaging import BuilderState, DriverImage, ImageBuild, ImageRef, Teller
from server_manager.drivers.virtualbox.builders import Builders
from server_manager.drivers.virtualbox.converting import Converter
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import Machine
from server_manager.drivers.virtualbox.power import Power
from server_manager.drivers.virtualbox.settings import live_uuid
from server_manager.drivers.virtualbox.states import meaning
from server_manager.images.cloud import host_arch
from server_manager.images.disks import examine

IMAGE_FILE = "image.json"
CONSOLE_LINES = 8
SNAPSHOT = "labctl"
MIB = 1024 * 1024


@dataclass(frozen=True)
class _Note:
    """What is noted of an image beside its machine."""

    name: str
    id: str
    arch: str | None = None


class VirtualBoxImages:
    """See ImageMaking. A mixin of the driver, which says where VirtualBox and the files are."""

    _make_library: Callable[[], Library]
    _image_directory: Callable[[str], Path]
    _converter: Converter
    _clock: Clock

    def prepare_image(self, build: ImageBuild, teller: Teller) -> DriverImage:
        """See ImageMaking."""
        library, folder = self._make_library(), Folder(build.directory)
        machine = library.find(build.ref.id)
        if machine is not None and machine.snapshot is not None:
            raise Conflict(f"image {build.ref.name} is finished", "remove it first")
        self._clear(library, build.ref, machine, folder)
        self._note(build.ref, None)
        disk = folder.machines / "disk.vdi"
        disk.parent.mkdir(mode=0o700, parents=True)
        arch = host_arch()
        self._converter.convert(library.vbox, Path(build.source), disk, teller)
        boot = examine(disk, arch)
        self._converter.grow(library.vbox, disk)
        Builders(library).make(build, folder, disk, boot)
        self._note(build.ref, boot.arch)
        return DriverImage(build.ref, None, boot.arch)

    def boot_builder(self, build: ImageBuild) -> None:
        """See ImageMaking."""
        library = self._make_library()
        machine = self._existing(library, build.ref)
        if meaning(machine.state).power is not PowerState.RUNNING:
            Power(library, self._clock).boot(machine, Folder(build.directory))

    def provision_builder(self, build: ImageBuild, archive: bytes, teller: Teller) -> None:
        """See ImageMaking: labctl does it by SSH."""
        raise Conflict("builders of VirtualBox are provisioned by SSH", "labctl image build")

    def builder(self, ref: ImageRef) -> BuilderState:
        """See ImageMaking."""
        machine = self._make_library().find(ref.id)
        if machine is None or machine.snapshot is not None:
            return BuilderState(PowerState.ABSENT)
        what = meaning(machine.state)
        lines = tail(self._folder(ref).serial, CONSOLE_LINES)
        return BuilderState(what.power, machine.problem or what.problem, lines)

    def stop_builder(self, ref: ImageRef, *, force: bool = False) -> None:
        """See ImageMaking."""
        library = self._make_library()
        machine = library.find(ref.id)
        if machine is None or meaning(machine.state).stop == "nothing":
            return
        self._check_owned(library, ref, machine)
        if force:
            Power(library, self._clock).cut(machine)
        else:
            library.vbox.change("controlvm", machine.uuid, "acpipowerbutton")

    def finish_image(self, ref: ImageRef) -> DriverImage:
        """See ImageMaking."""
        library = self._make_library()
        machine = self._existing(library, ref)
        if machine.snapshot is None:
            state = meaning(machine.state).power
            if state is not PowerState.STOPPED:
                raise Conflict(f"the builder of image {ref.name} is {state}", "it must be off")
            Builders(library).strip(machine)
            library.vbox.change("snapshot", machine.uuid, "take", SNAPSHOT)
            machine = self._existing(library, ref)
        if machine.snapshot is None:
            raise DriverFailed(f"{machine.name} has no snapshot, though one was taken")
        return self._told(ref, machine)

    def remove_image(self, ref: ImageRef) -> None:
        """See ImageMaking."""
        library = self._make_library()
        folder = self._folder(ref)
        machine = library.find(ref.id)
        self._clear(library, ref, machine, folder)
        (folder.path / IMAGE_FILE).unlink(missing_ok=True)

    def images(self) -> tuple[DriverImage, ...]:
        """See ImageMaking."""
        library = self._make_library()
        told = []
        for ref in self._refs():
            machine = library.find(ref.id)
            if machine is not None:
                told.append(self._told(ref, machine))
        return tuple(told)

    def _refs(self) -> Iterator[ImageRef]:
        parent = self._image_directory("x").parent
        names = sorted(entry.name for entry in parent.iterdir()) if parent.exists() else []
        for name in names:
            note = self._noted(name)
            if note is not None and note.name == name:
                yield ImageRef(note.name, note.id)

    def _told(self, ref: ImageRef, machine: Machine) -> DriverImage:
        folder = self._folder(ref)
        size = sum(file.stat().st_size for file in folder.machines.rglob("*.vdi"))
        note = self._noted(ref.name)
        handle = machine.uuid if machine.snapshot else None
        return DriverImage(ref, handle, note.arch if note else None, size // MIB)

    def _note(self, ref: ImageRef, arch: str | None) -> None:
        write_json(self._folder(ref).path / IMAGE_FILE, encode(_Note(ref.name, ref.id, arch)))

    def _noted(self, name: str) -> _Note | None:
        try:
            value = read_json(self._image_directory(name) / IMAGE_FILE)
            return None if value is None else decode(_Note, value)
        except (OSError, ValueError, WireError):
            return None

    def _folder(self, ref: ImageRef) -> Folder:
        return Folder(self._image_directory(ref.name))

    def _existing(self, library: Library, ref: ImageRef) -> Machine:
        machine = library.find(ref.id)
        if machine is None:
            raise NotFound(f"there is no image {ref.name}", "labctl image build makes it")
        return machine

    def _check_owned(self, library: Library, ref: ImageRef, machine: Machine) -> None:
        if not self._folder(ref).contains(machine.settings):
            raise Conflict(
                f"virtual machine {machine.name} is not where image {ref.name} should be: it was"
                " left alone",
                f"look at VBoxManage showvminfo {machine.uuid}",
            )

    def _clear(
        self, library: Library, ref: ImageRef, machine: Machine | None, folder: Folder
    ) -> None:
        """Remove a machine and its media, or what a crash left of them."""
        if machine is not None:
            self._check_owned(library, ref, machine)
        library.check_childless(folder)
        self._clear_live(library, ref)
        if machine is not None:
            self._cut_and_forget(library, machine)
        library.close_media(folder)
        folder.clear()

    def _clear_live(self, library: Library, ref: ImageRef) -> None:
        folder = self._folder(ref).live
        machine = library.find(live_uuid(ref.id))
        if machine is not None:
            if not folder.contains(machine.settings):
                raise Conflict(f"virtual machine {machine.name} is not where it should be")
            self._cut_and_forget(library, machine)
        library.close_media(folder)
        folder.clear()

    def _cut_and_forget(self, library: Library, machine: Machine) -> None:
        if meaning(machine.state).stop != "nothing":
            Power(library, self._clock).cut(machine)
        library.unregister(machine)
