"""A real server-manager process over the fake driver: `process.py PORT [NODE]`.

With a NODE, creating that node never ends: there the test kills the process.
"""

import sys
import threading

from labcore.clock import SystemClock
from server_manager.__main__ import run
from server_manager.core import Drivers
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.fake import FakeDriver
from server_manager.paths import StatePaths
from server_manager.probes import FakeProber


class Stuck(FakeDriver):
    """Never finishes creating one node."""

    def create(self, spec: ServerSpec) -> None:
        """See Driver."""
        if spec.ref.name in sys.argv[2:]:
            threading.Event().wait()
        super().create(spec)


if __name__ == "__main__":
    clock = SystemClock()
    driver = Stuck(clock)
    drivers = Drivers(("fake",), lambda name, settings: driver)
    raise SystemExit(run(StatePaths.find(), drivers, FakeProber(), clock, int(sys.argv[1])))
