"""Unpacks what a node sends, without trusting it: nothing is written outside the target.

tarfile's own filter for that is missing in Debian 12's Python 3.11.2.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from labcore.errors import DriverFailed, LabError, TimedOut


def unpack(stream: BinaryIO, base: str, target: Path) -> None:
    """Write the tree `base` of a tar stream as `target`, replacing files that are there.

    Files, folders, and links as they are: nothing is ever written through one. Raises DriverFailed
    for anything else, LabError where nothing can be written.
    """
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                path = _inside(member.name, base, target)
                if path != target and path.is_symlink():
                    path.unlink()  # one of an earlier copy
                if member.issym():
                    links.append((path, member.linkname))
                else:
                    _write(archive, member, path)
            # Last, so that nothing was ever written through one of them.
            for path, leads_to in links:
                path.unlink(missing_ok=True)
                path.symlink_to(leads_to)
    except tarfile.TarError as error:
        raise DriverFailed(f"what was sent for {base} is no tar archive: {error}") from error
    except TimeoutError as error:
        raise TimedOut(f"{base}: nothing more came") from error
    except OSError as error:
        raise LabError(f"cannot write {error.filename or target}: {error.strerror}") from error


def _inside(name: str, base: str, target: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] != base or ".." in parts:
        raise DriverFailed(f"what was sent for {base} holds {name!r}: refused")
    path = target.joinpath(*parts[1:])
    root = os.path.realpath(target)
    if path != target and os.path.commonpath([root, os.path.realpath(path.parent)]) != root:
        raise DriverFailed(f"{name} would be written through a link, outside {target}: refused")
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(exist_ok=True)
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise DriverFailed(f"{member.name} is neither a file nor a folder: refused")
    with path.open("wb") as stream:
        shutil.copyfileobj(content, stream)
    path.chmod(member.mode & 0o755 | 0o600)
