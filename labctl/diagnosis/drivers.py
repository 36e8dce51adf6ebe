"""Which drivers can be used here, as they say themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

from labcore.clock import SystemClock
from labcore.errors import LabError
from labctl.diagnosis.check import DRIVERS, Check
from server_manager.drivers.base import Driver
from server_manager.drivers.registry import DriverContext, make_driver, names
from server_manager.paths import StatePaths


def make(paths: StatePaths) -> Sequence[Driver]:
    """All of them but the fake one."""
    context = DriverContext.of(paths, SystemClock(), os.environ)
    return [make_driver(name, context) for name in names() if name != "fake"]


def examine(made: Sequence[Driver]) -> Sequence[Check]:
    """One check for each, by the driver's own `health`."""
    return [_one(driver) for driver in made]


def _one(driver: Driver) -> Check:
    name = DRIVERS + driver.name
    try:
        health = driver.health()
    except LabError as error:
        return Check(name, "bad", error.message, error.hint)
    text = health.version if health.ok else health.reason
    return Check(name, "ok" if health.ok else "bad", text or "usable", health.fix)
