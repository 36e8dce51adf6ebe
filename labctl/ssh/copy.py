"""Copies files and folders over a connection, as one stream of tar each way."""

from __future__ import annotations

import posixpath
import tarfile
from pathlib import Path
from typing import BinaryIO

from labcore.commands import Result
from labcore.errors import LabError, NotFound
from labctl.placing import own_name, place
from labctl.ssh.connection import Connection
from labctl.ssh.unpack import unpack

PROBE_LIMIT_S = 120.0


def put(connection: Connection, source: Path, target: str) -> str:
    """Copy a file or a folder there; where it is now.

    As `cp -r`: into `target` if that is a folder (or ends in `/`), else as `target`. What is there
    already is replaced, file by file. Raises NotFound, DriverFailed with what tar said there.
    """
    if not source.exists():
        raise NotFound(f"{source} does not exist")
    target = target or "."  # the home folder
    parent, name = place(target, source.resolve().name, is_folder=_is_folder(connection, target))

    def feed(stream: BinaryIO) -> None:
        try:
            with tarfile.open(fileobj=stream, mode="w|", dereference=False) as archive:
                archive.add(source.resolve(), arcname=name, filter=_anonymous)
        except OSError as error:
            if error.filename is None:
                raise  # of the connection, not of a file here
            raise LabError(f"cannot read {error.filename}: {error.strerror}") from error

    script = 'mkdir -p -- "$1" && exec tar -xf - -C "$1"'
    result = connection.run(["sh", "-c", script, "put", parent], feed=feed)
    result.check(f"copying {source} to {connection.endpoint.name}:{target}")
    return posixpath.normpath(posixpath.join(parent, name))


def get(connection: Connection, source: str, target: Path) -> Path:
    """Copy a file or a folder from there; where it is now. As `put`, the other way round.

    What comes is not trusted: nothing is written outside `target`. Raises NotFound, DriverFailed.
    """
    node = connection.endpoint.name
    base = own_name(source)
    folder = posixpath.dirname(source.rstrip("/")) or "."
    if target.is_dir():
        target = target / base
    elif not target.parent.is_dir():
        raise NotFound(f"{target.parent} is no folder")
    if connection.run(["test", "-e", source], limit_s=PROBE_LIMIT_S).returncode != 0:
        raise NotFound(f"{node} has no {source}")
    limits = connection.endpoint.limits
    exchange = connection.start(
        ["tar", "--hard-dereference", "-cf", "-", "-C", folder, "--", base], idle_s=limits.idle_s
    )
    try:
        unpack(exchange.stdout(), base, target)
    except BaseException:
        exchange.abandon()
        raise
    said = bytearray()
    code = exchange.carry(lambda _, data: said.extend(data))
    Result(("tar",), code, "", said.decode(errors="replace")).check(f"copying {node}:{source}")
    return target


def _is_folder(connection: Connection, target: str) -> bool:
    test = connection.run(["test", "-d", target], limit_s=PROBE_LIMIT_S)
    return test.returncode == 0


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who owns a file here means nothing there."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
