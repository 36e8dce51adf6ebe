"""The version of an nginx program, and what hangs on it: for the driver that picks one and the
balancer that writes its configuration.
"""

from __future__ import annotations

import re

from labcore import commands
from labcore.errors import DriverUnusable

Version = tuple[int, int, int]

# From here on a reload closes no connection that a client may just be writing to:
# `keepalive_min_timeout`, nginx CHANGES, 05 Feb 2025.
KEEPALIVE_MIN_TIMEOUT: Version = (1, 27, 4)
OLDEST: Version = (1, 19, 5)  # has the option -e; every directive of ours is older
_VERSION = re.compile(r"\bnginx/(\d+)\.(\d+)\.(\d+)")


def parse_version(text: str) -> Version:
    """The version in what `nginx -v` prints; raises DriverUnusable if there is none."""
    found = _VERSION.search(text)
    if found is None:
        raise DriverUnusable(f"no nginx version in {text.strip()!r}")
    return int(found[1]), int(found[2]), int(found[3])


def program_version(program: str) -> Version:
    """Ask the program itself, within 5 s.

    Raises DriverUnusable if it cannot be run, is no nginx, or is older than `OLDEST`.
    """
    result = commands.run((program, "-v"), timeout_s=5.0)
    version = parse_version(result.stderr + result.stdout)
    if version < OLDEST:
        raise DriverUnusable(
            f"{program} is nginx {'.'.join(map(str, version))}",
            f"install nginx {'.'.join(map(str, OLDEST))} or newer",
        )
    return version
