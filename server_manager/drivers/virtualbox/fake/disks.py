"""Commands of the fake that make a VDI of another disk. Its bytes are true: others read them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from server_manager.drivers.virtualbox.fake.options import options
from server_manager.drivers.virtualbox.fake.printing import Refused
from server_manager.drivers.virtualbox.fake.world import World

MIB = 1024 * 1024
SIGNATURE = struct.pack("<I", 0xBEDA107F)
SIZE_AT = 0x170
HOLE = 0xFFFFFFFF


def vdi(raw: bytes) -> bytes:
    """A disk as a VDI: blocks of zeros left out, and the others in no order."""
    blocks = [raw[at : at + MIB].ljust(MIB, b"\0") for at in range(0, len(raw), MIB)]
    kept = [n for n, block in enumerate(blocks) if any(block)][::-1]
    header = bytearray(MIB)
    header[64:68] = SIGNATURE
    struct.pack_into("<I", header, 0x4C, 1)  # grows as it is written to
    struct.pack_into("<II", header, 0x154, 512, MIB)
    struct.pack_into("<Q", header, SIZE_AT, len(raw))
    struct.pack_into("<I", header, 0x178, MIB)
    struct.pack_into("<I", header, 0x180, len(blocks))
    for number in range(len(blocks)):
        place = kept.index(number) if number in kept else HOLE
        struct.pack_into("<I", header, 512 + 4 * number, place)
    return bytes(header) + b"".join(blocks[number] for number in kept)


def convert(world: World, words: Sequence[str]) -> str:
    """`convertfromraw`."""
    source, target = Path(words[0]), Path(words[1])
    _check_new(target)
    target.write_bytes(vdi(source.read_bytes()))
    return f"Converting from raw image file={source} to file={target}...\n"


def clone(world: World, words: Sequence[str]) -> str:
    """`clonemedium disk`, of a VDI only."""
    source, target = Path(words[1]), Path(words[2])
    content = source.read_bytes()
    if content[64:68] != SIGNATURE:
        raise Refused(f"Could not get the storage format of the medium '{source}'")
    _check_new(target)
    target.write_bytes(content)
    return "Clone medium created in format 'VDI'.\n"


def resize(world: World, words: Sequence[str]) -> str:
    """`modifymedium disk … --resizebyte`."""
    path, given = Path(words[1]), options(words[2:])
    with path.open("r+b") as stream:
        stream.seek(SIZE_AT)
        stream.write(struct.pack("<Q", int(given["--resizebyte"])))
    return ""


def internal(world: World, words: Sequence[str]) -> str:
    """`internalcommands sethduuid`."""
    if words[0] != "sethduuid" or not Path(words[1]).exists():
        raise Refused(f"Invalid command: {' '.join(words)}", returncode=2)
    return "UUID changed\n"


def _check_new(target: Path) -> None:
    if target.exists():
        raise Refused(f"Cannot create the image '{target}': VERR_ALREADY_EXISTS")
