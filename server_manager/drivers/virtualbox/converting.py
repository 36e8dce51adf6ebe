"""Any disk file as a VDI of our own, with a UUID of its own; the source is only read."""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path

from labcore import commands
from labcore.errors import DriverUnusable, LabError, UsageProblem
from server_manager.drivers.imaging import Teller
from server_manager.drivers.virtualbox.vboxmanage import VBoxManage
from server_manager.images.unpack import format_of

LIMIT_S = 3600.0
CHUNK = 1024 * 1024
MIB = 1024 * 1024
LEAST = 8 * 1024 * MIB
VDI_DIFFERENCE = 4  # the image type of a disk that is nothing without its parent


class Converter:
    """`search_path` is where qemu-img is looked for."""

    def __init__(self, search_path: str) -> None:
        self._search_path = search_path

    def convert(self, vbox: VBoxManage, source: Path, target: Path, teller: Teller) -> None:
        """Make `target`, which is not there yet, of any disk file.

        Raises UsageProblem for what nobody here can read, DriverFailed with what VBoxManage said.
        """
        kind = format_of(source)
        if kind == "archive":
            raise UsageProblem(f"{source} is an archive", "it should have been unpacked")
        {
            "raw": self._from_raw,
            "vdi": self._from_vdi,
            "vmdk": self._from_vmdk,
            "qcow2": self._from_qcow2,
        }[kind](vbox, source, target, teller)
        teller.progress(100, 100)

    def grow(self, vbox: VBoxManage, disk: Path) -> None:
        """Make a VDI 8 GiB large, if it is smaller: cloud images have no room for packages."""
        if _capacity(disk) < LEAST:
            # Not --resize: that refuses to make a very small disk a large one.
            vbox.change("modifymedium", "disk", str(disk), "--resizebyte", str(LEAST))

    def _from_raw(self, vbox: VBoxManage, source: Path, target: Path, teller: Teller) -> None:
        _run(vbox, "convertfromraw", str(source), str(target), "--format", "VDI")

    def _from_vdi(self, vbox: VBoxManage, source: Path, target: Path, teller: Teller) -> None:
        """A copy: VirtualBox may have a disk with that UUID, and would refuse to open another."""
        with source.open("rb") as stream:
            (kind,) = struct.unpack_from("<I", stream.read(0x50), 0x4C)
        if kind == VDI_DIFFERENCE:
            raise UsageProblem(
                f"{source} holds only the differences to another disk",
                "export the machine it belongs to: VBoxManage export VM -o FILE.ova",
            )
        _copy(source, target, teller)
        _run(vbox, "internalcommands", "sethduuid", str(target))

    def _from_vmdk(self, vbox: VBoxManage, source: Path, target: Path, teller: Teller) -> None:
        _run(vbox, "clonemedium", "disk", str(source), str(target), "--format", "VDI")
        # Reading it made it known to VirtualBox; it may have been before, and be in use.
        with contextlib.suppress(LabError):
            vbox.change("closemedium", "disk", str(source))

    def _from_qcow2(self, vbox: VBoxManage, source: Path, target: Path, teller: Teller) -> None:
        program = shutil.which("qemu-img", path=self._search_path)
        if program is not None:
            argv = (program, "convert", "-O", "vdi", str(source), str(target))
            commands.run(argv, timeout_s=LIMIT_S).check(
                f"converting {source}", "is the file whole? qemu-img check says more"
            )
            return
        try:
            self._from_vmdk(vbox, source, target, teller)
        except LabError as error:
            raise DriverUnusable(
                f"VirtualBox cannot read {source}: {error.message}",
                "install qemu-img (Debian: qemu-utils), or take the raw file of the same image",
                error.details,
            ) from error


def _run(vbox: VBoxManage, *arguments: str) -> None:
    # On a disk that nobody else knows yet: others need not wait for it.
    vbox.change(*arguments, timeout_s=LIMIT_S, exclusive=False)


def _copy(source: Path, target: Path, teller: Teller) -> None:
    size = source.stat().st_size / MIB
    with source.open("rb") as stream, target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            out.write(chunk)
            teller.progress(100 * out.tell() / MIB / size, 100)


def _capacity(vdi: Path) -> int:
    """The size in bytes of the disk in a VDI, as its header tells it."""
    with vdi.open("rb") as stream:
        stream.seek(0x170)
        return int(struct.unpack("<Q", stream.read(8))[0])
