"""Small disks that could boot, as files."""

import struct
import uuid
from pathlib import Path

from server_manager.drivers.virtualbox.fake.disks import vdi
from server_manager.images.disks import BIOS_BOOT, ESP, SECTOR

MIB = 1024 * 1024


def mbr(
    *, active: bool = True, kind: int = 0x83, code: bytes = b"\xfa\x33", size: int = 2
) -> bytes:
    """A disk of `size` MiB with one partition."""
    sector = bytearray(SECTOR)
    sector[: len(code)] = code
    sector[446] = 0x80 if active else 0
    sector[450] = kind
    struct.pack_into("<II", sector, 454, 2048, (size - 1) * 2048)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector) + bytes(size * MIB - SECTOR)


def gpt(*kinds: uuid.UUID, loader: bytes = b"", code: bytes = b"", size: int = 4) -> bytes:
    """A disk whose partitions, of 1 MiB each, are of these kinds; `loader` lies in the first."""
    disk = bytearray(mbr(active=False, kind=0xEE, code=code, size=size))
    disk[SECTOR : SECTOR + 8] = b"EFI PART"
    struct.pack_into("<QII", disk, SECTOR + 72, 2, 128, 128)
    for number, kind in enumerate(kinds):
        at = 2 * SECTOR + number * 128
        first = (number + 1) * 2048
        disk[at : at + 16] = kind.bytes_le
        struct.pack_into("<QQ", disk, at + 32, first, first + 2047)
    disk[MIB : MIB + len(loader)] = loader
    return bytes(disk)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


__all__ = ["BIOS_BOOT", "ESP", "MIB", "gpt", "mbr", "vdi", "write"]
