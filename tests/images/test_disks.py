"""What can boot here, told from a disk's own bytes, as a raw file and as a VDI."""

import uuid
from pathlib import Path

import pytest

from labcore.errors import UsageProblem
from server_manager.images.disks import BIOS_BOOT, ESP, ROOTS, Boot, examine
from tests.images.disks import MIB, gpt, mbr, vdi, write

ROOT = {arch: kind for kind, arch in ROOTS.items()}
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
CODE = b"\xfa\x33\xc0"

CAN = [
    ("an active partition", mbr(), "amd64", Boot("bios", "amd64")),
    ("a BIOS boot partition", gpt(BIOS_BOOT, LINUX, code=CODE), "amd64", Boot("bios", "amd64")),
    ("an ESP, 64 bit", gpt(ESP, loader=b"BOOTX64 EFI"), "amd64", Boot("efi", "amd64")),
    ("an ESP, ARM", gpt(ESP, loader=b"xx BOOTAA64EFI"), "arm64", Boot("efi", "arm64")),
    ("an ESP that names nobody", gpt(ESP, LINUX), "arm64", Boot("efi", "arm64")),
    ("a root for ARM", gpt(ESP, ROOT["arm64"]), "arm64", Boot("efi", "arm64")),
    (
        "both ways, as cloud images are",
        gpt(ESP, BIOS_BOOT, ROOT["amd64"], code=CODE, loader=b"BOOTX64 EFI"),
        "amd64",
        Boot("bios", "amd64"),
    ),
    ("an old ESP", mbr(active=False, kind=0xEF, code=b""), "amd64", Boot("efi", "amd64")),
]
CANNOT = [
    ("nothing", bytes(2 * MIB), "amd64", "no partition table"),
    ("no active partition", mbr(active=False), "amd64", "no partition is active"),
    ("no boot code", mbr(code=b""), "amd64", "no partition is active"),
    ("no ESP", gpt(LINUX), "amd64", "no EFI system partition"),
    ("a GPT without header", mbr(active=False, kind=0xEE), "amd64", "GPT has no header"),
    ("64 bit on ARM", mbr(), "arm64", "made for amd64 machines, and this one is arm64"),
    ("ARM here", gpt(ESP, loader=b"BOOTAA64EFI"), "amd64", "made for arm64 machines"),
    ("a root for ARM here", gpt(ESP, ROOT["arm64"]), "amd64", "made for arm64 machines"),
]


@pytest.mark.parametrize("wrapped", [False, True], ids=["raw", "vdi"])
@pytest.mark.parametrize(("name", "disk", "arch", "boot"), CAN, ids=[case[0] for case in CAN])
def test_what_can_boot(tmp_path: Path, name: str, disk: bytes, arch: str, boot: Boot, wrapped):
    path = write(tmp_path / "disk", vdi(disk) if wrapped else disk)
    assert examine(path, arch) == boot


@pytest.mark.parametrize("wrapped", [False, True], ids=["raw", "vdi"])
@pytest.mark.parametrize(
    ("name", "disk", "arch", "message"), CANNOT, ids=[case[0] for case in CANNOT]
)
def test_what_cannot(tmp_path: Path, name: str, disk: bytes, arch: str, message: str, wrapped):
    path = write(tmp_path / "disk", vdi(disk) if wrapped else disk)
    with pytest.raises(UsageProblem, match=message) as refusal:
        examine(path, arch)
    assert refusal.value.hint


def test_a_disk_that_ends_too_early_is_told_as_one_that_cannot_boot(tmp_path: Path):
    for length in (0, 100, 512, 600):
        path = write(tmp_path / "disk", gpt(ESP, LINUX)[:length])
        with pytest.raises(UsageProblem, match="cannot boot"):
            examine(path, "amd64")
