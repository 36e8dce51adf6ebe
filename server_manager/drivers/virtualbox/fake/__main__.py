"""Runs one command of the fake VBoxManage."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labcore.clock import SystemClock
from labcore.errors import TimedOut
from server_manager.drivers.virtualbox.fake.program import answer

VARIABLE = "LABCTL_FAKE_VIRTUALBOX"
HANGS_S = 3600.0


def main() -> int:
    """Print what there is to print; the exit code."""
    try:
        result = answer(sys.argv[1:], Path(os.environ[VARIABLE]))
    except TimedOut:
        SystemClock().sleep(HANGS_S)
        return 1
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return result.returncode


if __name__ == "__main__":
    raise SystemExit(main())
