"""Journal replay: whatever a death leaves on the disk, the next server-manager makes it legal.

At every death the disk and the servers are copied; on the copy a server-manager starts, without
any fault, and then a second one. The first must leave every server as it is wanted and no
operation open, and the second must find nothing to do.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from labcore.clock import FakeClock
from labcore.wire.lab import Desired, Wanted
from server_manager.drivers.fake import FakeDriver
from server_manager.executors import Inline
from server_manager.journal import Entry, unfinished
from server_manager.manager import Manager
from server_manager.probes import FakeProber
from tests.simulation.hosting import Disk, SimDatabase, make_core, new_disk
from tests.simulation.machines import ON

if TYPE_CHECKING:
    from tests.simulation.world import World

CHANGES = ("create", "start", "stop", "destroy", "pause", "resume")


def broken_replay(world: World) -> str:
    """Journal replay is legal and idempotent, from what is on the disk now; "" if it is."""
    driver = _copy_of_driver(world)
    with _copy_of_disk(world) as disk:
        first = _manager(world, disk, driver)
        left = unfinished(first.core.journal.entries())
        first.recover()
        why = _illegal(first, driver, left)
        if why:
            return f"journal replay is legal: {why}"
        calls = len(driver.calls)
        _manager(world, disk, driver).recover()
        again = [c for c in list(driver.calls)[calls:] if c.operation in CHANGES]
    return f"journal replay is idempotent: {again[0].operation} again" if again else ""


def _illegal(manager: Manager, driver: FakeDriver, left: Sequence[Entry]) -> str:
    core = manager.core
    begun = [e for e in core.journal.entries() if e.state == "begun"]
    if begun:
        return f"{begun[0].operation} of {begun[0].node} is still begun"
    if any(lab.running for lab in core.labs.all()):
        return "a run goes on for ever"
    for entry in left:
        lab, server = core.labs.find(entry.lab), core.servers.find(entry.lab, entry.node)
        if lab is None or server is None:
            continue
        is_wanted = lab.desired is Desired.UP and server.wanted is not Wanted.OFF
        if not is_wanted and entry.operation not in ("stop", "kill", "destroy"):
            continue  # the scaler drains it first
        state = driver.get(server.ref).state
        if (state in ON) != is_wanted:
            return f"{server.name} is {state}, and wanted {server.wanted}"
    return ""


def _copy_of_driver(world: World) -> FakeDriver:
    driver = FakeDriver(FakeClock(world.loop.now))
    for key, server in world.driver._servers.items():
        driver._servers[key] = dataclasses.replace(server, told=None, dies_at=None)
    return driver


@contextmanager
def _copy_of_disk(world: World) -> Iterator[sqlite3.Connection]:
    with closing(new_disk()) as disk:
        world.host.disk.backup(disk)
        yield disk


def _manager(world: World, disk: sqlite3.Connection, driver: FakeDriver) -> Manager:
    database = SimDatabase(disk, lambda where: None, Disk())
    clock = FakeClock(world.loop.now)
    return Manager(make_core(world.host.folder, database, driver, FakeProber(), clock, Inline()))
