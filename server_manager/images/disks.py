"""Whether a disk can boot, how, and on which machines: read from a raw or VDI file, never guessed
from a name.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from labcore.errors import UsageProblem

SECTOR = 512
MIB = 1024 * 1024
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
ROOTS = {  # discoverable partitions that say for which machine they are
    uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "amd64",
    uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"): "arm64",
}
# The boot loaders' names as FAT keeps them in a directory.
LOADERS = {b"BOOTX64 EFI": "amd64", b"BOOTAA64EFI": "arm64"}
MOST_ESP = 64 * MIB  # looked through for them
MOST_ENTRIES = 128
ACTIVE = 0x80
GPT_TYPE = 0xEE
EFI_TYPE = 0xEF
_VDI_HEADER = 0x154  # where the offsets of block map and data stand
_VDI_DYNAMIC_HOLE = 0xFFFFFFFE  # from here on: a block that was never written


@dataclass(frozen=True)
class Boot:
    """How a disk boots, and on which machines (None: it does not say)."""

    firmware: Literal["bios", "efi"]
    arch: str | None


@dataclass(frozen=True)
class _Partition:
    kind: uuid.UUID | int
    start: int  # bytes
    size: int
    active: bool = False


class _Reader(Protocol):
    def read(self, offset: int, size: int) -> bytes: ...


def examine(path: Path, arch: str) -> Boot:
    """How the disk in a raw or VDI file boots on a machine of `arch` (amd64, arm64).

    Raises UsageProblem if it cannot boot, or only on another one.
    """
    with path.open("rb") as stream:
        boot = _boot(_reader(stream), path, arch)
    if boot.arch not in (None, arch):
        raise UsageProblem(
            f"{path.name} is made for {boot.arch} machines, and this one is {arch}",
            f"take an image for {arch}",
        )
    return boot


def _boot(disk: _Reader, path: Path, arch: str) -> Boot:
    sector = disk.read(0, SECTOR)
    if sector[510:512] != b"\x55\xaa":
        raise _not_bootable(path, "it has no partition table")
    partitions = list(_mbr(sector))
    code = any(sector[:440])
    if any(p.kind == GPT_TYPE for p in partitions):
        partitions = list(_gpt(disk, path))
    elif code and any(p.active for p in partitions):
        return Boot("bios", "amd64")
    told = {ROOTS[p.kind] for p in partitions if p.kind in ROOTS}  # type: ignore[index]
    esp = next((p for p in partitions if p.kind in (ESP, EFI_TYPE)), None)
    loaders = _loaders(disk, esp) if esp else frozenset[str]()
    if code and any(p.kind == BIOS_BOOT for p in partitions) and arch == "amd64":
        return Boot("bios", "amd64")
    if esp is None:
        raise _not_bootable(path, "no partition is active, and there is no EFI system partition")
    found = loaders or told
    return Boot("efi", arch if arch in found or not found else min(found))


def _mbr(sector: bytes) -> Iterator[_Partition]:
    for at in range(446, 510, 16):
        flag, kind = sector[at], sector[at + 4]
        start, count = struct.unpack_from("<II", sector, at + 8)
        if kind:
            yield _Partition(kind, start * SECTOR, count * SECTOR, flag == ACTIVE)


def _gpt(disk: _Reader, path: Path) -> Iterator[_Partition]:
    header = disk.read(SECTOR, SECTOR)
    if header[:8] != b"EFI PART":
        raise _not_bootable(path, "its GPT has no header")
    table, count, size = struct.unpack_from("<QII", header, 72)
    if not 128 <= size <= 4096:
        raise _not_bootable(path, "its GPT is broken")
    raw = disk.read(table * SECTOR, min(count, MOST_ENTRIES) * size)
    for at in range(0, len(raw) - size + 1, size):
        kind = uuid.UUID(bytes_le=raw[at : at + 16])
        first, last = struct.unpack_from("<QQ", raw, at + 32)
        if kind.int:
            yield _Partition(kind, first * SECTOR, (last - first + 1) * SECTOR)


def _loaders(disk: _Reader, esp: _Partition) -> frozenset[str]:
    found, end = set[str](), esp.start + min(esp.size, MOST_ESP)
    for at in range(esp.start, end, MIB):
        chunk = disk.read(at, min(MIB, end - at))
        found |= {arch for name, arch in LOADERS.items() if name in chunk}
    return frozenset(found)


def _not_bootable(path: Path, why: str) -> UsageProblem:
    return UsageProblem(
        f"{path.name} cannot boot: {why}", "take the image of a whole disk, not of a partition"
    )


def _reader(stream: IO[bytes]) -> _Reader:
    head = stream.read(0x200)
    is_vdi = head[64:68] == struct.pack("<I", 0xBEDA107F)
    return _Vdi(stream, head) if is_vdi else _Raw(stream)


class _Raw:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(size)


class _Vdi:
    """Blocks of a VDI without a parent, by its block map."""

    def __init__(self, stream: IO[bytes], head: bytes) -> None:
        self._raw = _Raw(stream)
        self._map, self._data = struct.unpack_from("<II", head, _VDI_HEADER)
        (self._block,) = struct.unpack_from("<I", head, 0x178)
        (self._count,) = struct.unpack_from("<I", head, 0x180)

    def read(self, offset: int, size: int) -> bytes:
        out = b""
        while size > 0 and offset // self._block < self._count:
            index, within = divmod(offset, self._block)
            part = min(size, self._block - within)
            (at,) = struct.unpack("<I", self._raw.read(self._map + 4 * index, 4))
            if at >= _VDI_DYNAMIC_HOLE:
                out += bytes(part)
            else:
                out += self._raw.read(self._data + at * self._block + within, part)
            offset, size = offset + part, size - part
        return out
