"""What travels into a node: labcore, agent and control_node, and a door to their modules.

Debian 12 has all that they import, so a node needs no pip: `python3 -I <folder> agent.metrics
--config node.json` runs a module, and nothing but this folder and Debian's own is importable.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import labcore
from labcore.errors import Conflict

PACKAGES = ("agent", "control_node", "labcore")
# Code and the templates it fills in; everything else beside them is somebody's leftovers.
SUFFIXES = (".py", ".j2")
DIGEST_FILE = "DIGEST"  # by which a node knows that it has this program already

MAIN = '''"""Runs one of these modules: `python3 -I <folder> agent.metrics --config node.json`."""

import runpy
import sys

if len(sys.argv) < 2:
    sys.stderr.write("usage: python3 -I <folder> MODULE [ARGUMENT ...]\\n")
    sys.exit(2)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
'''


def copy_to(directory: Path) -> None:
    """Write the node program into a folder, made if it is missing.

    Raises Conflict if there is something in it: a module that an older version left behind would
    still be importable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise Conflict(f"{directory} is not empty", "remove it, then copy the node program again")
    for name, content in _files().items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def archive() -> bytes:
    """The same as a gzipped tar: equal bytes for equal sources, whenever and by whomever made."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in _files().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def digest() -> str:
    """A digest of the sources, whatever they are packed by; it travels with them."""
    return _digest(_sources())


def _digest(sources: dict[str, bytes]) -> str:
    lines = (f"{hashlib.sha256(raw).hexdigest()}  {name}\n" for name, raw in sources.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files() -> dict[str, bytes]:
    """Path in the node's folder -> content: the sources and their digest."""
    sources = _sources()
    return {DIGEST_FILE: f"{_digest(sources)}\n".encode(), **sources}


def _sources() -> dict[str, bytes]:
    """Path in the node's folder -> content, sorted."""
    # The packages lie side by side, in a source tree and in site-packages. They are found as files,
    # because this one may import none of them but labcore.
    root = Path(labcore.__file__).resolve().parent.parent
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in SUFFIXES
    }
    return dict(sorted({"__main__.py": MAIN.encode(), **found}.items()))
