"""Provisions a builder over SSH, seals it and powers it off: one login for all of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from labcore.clock import Clock
from labcore.errors import LabError
from labctl.ssh.connection import Connection, connect_when_up
from labctl.ssh.endpoint import Endpoint
from server_manager.guest.provisioning import APP_IMAGE, BUILD, THEN_OFF

LOGIN_LIMIT_S = 300.0
SHORT_LIMIT_S = 300.0
FOLDER = "/var/tmp/labctl-build"  # noqa: S108 - in the builder, made anew with mode 0700
HEARD_EVERY_S = 30.0


def provision(
    endpoint: Endpoint,
    archive: bytes,
    app_image: Path | None,
    clock: Clock,
    tell: Callable[[str], None],
) -> None:
    """Make the machine at `endpoint` one that can be cloned; it powers off by itself then.

    May be called again until that. Raises what `connect_when_up` does, and DriverFailed with the
    last lines that the scripts printed.
    """
    root = "" if endpoint.user == "root" else "sudo -n "
    with connect_when_up(endpoint, LOGIN_LIMIT_S, clock) as connection:
        fresh = f"rm -rf {FOLDER} && mkdir -m 700 {FOLDER} && tar -xf - -C {FOLDER}"
        _short(connection, f"{root}sh -c '{fresh}'", lambda stream: _send(stream, archive))
        if app_image is not None:
            tell(f"copying {app_image}")
            target = f"{root}sh -c 'cat >{FOLDER}/{APP_IMAGE}'"
            _short(connection, target, lambda stream: _send_file(stream, app_image), None)
        # One command: afterwards nobody can become root here.
        done = connection.run(f"{root}sh {FOLDER}/{BUILD} {THEN_OFF}", tell=tell)
        done.check(f"provisioning the builder at {endpoint.address}", "the lines say what failed")


def _short(
    connection: Connection,
    command: str,
    feed: Callable[[BinaryIO], None],
    limit_s: float | None = SHORT_LIMIT_S,
) -> None:
    done = connection.run(command, limit_s=limit_s, feed=feed)
    done.check("copying into the builder", "it needs tar and, but for root, sudo without password")


def _send(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _send_file(stream: BinaryIO, path: Path) -> None:
    try:
        with path.open("rb") as source:
            shutil.copyfileobj(source, stream, 1024 * 1024)
    except FileNotFoundError as error:
        raise LabError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def heard(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` from time to time while the body works: scripts are silent for minutes."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(HEARD_EVERY_S):
            try:
                tell()
            except LabError:
                return  # the build has ended; whoever follows it learns why

    thread = threading.Thread(target=work, name="heard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
