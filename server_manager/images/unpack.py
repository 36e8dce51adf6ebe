"""What kind of file a source is, told by its first bytes, and the disk out of an archive."""

from __future__ import annotations

import json
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from labcore.errors import UsageProblem
from server_manager.drivers.imaging import Teller

Format = Literal["raw", "qcow2", "vdi", "vmdk", "archive"]
CHUNK = 1024 * 1024
MIB = 1024 * 1024
DISKS = (".vmdk", ".vdi", ".qcow2", ".raw", ".img")
METADATA = "metadata.json"  # of a Vagrant box
MOST_METADATA = 64 * 1024
ZEROS = bytes(64 * 1024)
KINDS = "raw, qcow2, vdi, vmdk, ova, a Vagrant .box, or a tar of one of them"


@dataclass(frozen=True)
class Disk:
    """A disk file that a driver can read, and what its wrapping said of it."""

    path: Path
    arch: str | None = None


def format_of(path: Path) -> Format:
    """What a file is. Raises UsageProblem if it is nothing that an image can be made of."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
            size = stream.seek(0, 2)
    except OSError as error:
        raise UsageProblem(f"cannot read {path}: {error.strerror}") from error
    if head[:4] == b"QFI\xfb":
        return "qcow2"
    if head[64:68] == struct.pack("<I", 0xBEDA107F):
        return "vdi"
    if head[:4] == b"KDMV" or head[:21] == b"# Disk DescriptorFile":
        return "vmdk"
    if head[257:262] == b"ustar" or head[:2] == b"\x1f\x8b" or head[:6] == b"\xfd7zXZ\x00":
        return "archive"
    if head[510:512] == b"\x55\xaa" and size >= MIB:
        return "raw"
    raise UsageProblem(
        f"{path} is no disk that can boot: it has neither a partition table nor a known format",
        f"known: {KINDS}",
    )


def unpack(archive: Path, directory: Path, teller: Teller) -> Disk:
    """Take the one disk out of an archive, into `directory`, which should be empty.

    Zeros become holes. Raises UsageProblem for an archive that is broken, has no disk or several,
    or is a box for something else than VirtualBox.
    """
    said: dict[str, object] = {}
    found: list[Path] = []
    try:
        for name, stream in _members(archive, teller):
            if name == METADATA:
                said = _metadata(archive, stream.read(MOST_METADATA))
            elif name.endswith(DISKS):
                found.append(directory / f"source{PurePosixPath(name).suffix}")
                if len(found) > 1:
                    raise UsageProblem(f"{archive} holds several disks", "name the one to boot")
                _write(stream, found[0])
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise UsageProblem(f"{archive} cannot be unpacked: {error}", f"known: {KINDS}") from error
    if not found:
        raise UsageProblem(f"{archive} holds no disk", f"looked for: {', '.join(DISKS)}")
    arch = said.get("architecture")
    return Disk(found[0], arch if isinstance(arch, str) and arch != "unknown" else None)


def _members(archive: Path, teller: Teller) -> Iterator[tuple[str, _Told]]:
    """Plain file name and content of each file, in order; progress by what was read of it."""
    size = max(1, archive.stat().st_size)
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                yield PurePosixPath(member.name).name, _Told(stream, raw, size, teller)


class _Told:
    """A stream that tells how much of the archive below it was read."""

    def __init__(self, stream: IO[bytes], below: IO[bytes], size: int, teller: Teller) -> None:
        self._stream, self._below = stream, below
        self._size, self._teller = size, teller

    def read(self, count: int) -> bytes:
        self._teller.progress(self._below.tell() / MIB, self._size / MIB)
        return self._stream.read(count)


def _write(stream: _Told, target: Path) -> None:
    with target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            for start in range(0, len(chunk), len(ZEROS)):
                piece = chunk[start : start + len(ZEROS)]
                if piece == ZEROS:
                    out.seek(len(piece), 1)
                else:
                    out.write(piece)
        out.truncate()


def _metadata(archive: Path, text: bytes) -> dict[str, object]:
    try:
        said = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"{archive}: its {METADATA} is not JSON: {error}") from error
    provider = said.get("provider") if isinstance(said, dict) else None
    if provider != "virtualbox":
        raise UsageProblem(
            f"{archive} is a Vagrant box for {provider!r}", "a box for virtualbox is needed"
        )
    return dict(said)
