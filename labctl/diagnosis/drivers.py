"""Which drivers can be used here, as they say themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

from labcore.clock import SystemClock
from labcore.errors import LabError
from labctl.diagnosis.check import DRIVERS, Check
from server_manager.drivers.registry import DriverContext, make_driver, names
from server_manager.paths import StatePaths


def examine(paths: StatePaths) -> Sequence[Check]:
    """One check for each, by the driver's own `health`."""
    context = DriverContext.of(paths, SystemClock(), os.environ)
    return [_one(name, context) for name in names() if name != "fake"]


def _one(name: str, context: DriverContext) -> Check:
    try:
        health = make_driver(name, context).health()
    except LabError as error:
        return Check(DRIVERS + name, "bad", error.message, error.hint)
    text = health.version if health.ok else health.reason
    return Check(DRIVERS + name, "ok" if health.ok else "bad", text or "usable", health.fix)
