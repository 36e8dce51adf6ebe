"""What a simulation begins with: another lab, the rules of ours, and who asks its nodes."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labcore.clock import FakeClock
from labcore.codec import decode, encode
from labcore.services import Service
from labcore.wire.lab import Scaling
from labcore.wire.scaler import BalancerStatus, ScalerStatus
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.fake import FakeDriver
from server_manager.executors import Inline
from server_manager.manager import Manager
from server_manager.probes import FakeProber
from tests.simulation import people
from tests.simulation.hosting import Disk, SimDatabase, make_core, new_disk

if TYPE_CHECKING:
    from tests.simulation.world import World

LAB, OTHER = "demo", "other"


class Prober:
    """server_manager.probes.Prober: asks the agents and the scaler of the simulation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._travelled = ScalerStatus(LAB, "", False, BalancerStatus(None, {}), (), ())

    def unhealthy(self, services: tuple[Service, ...], endpoints: Mapping[str, str]) -> str:
        """See Prober."""
        node = self._world.driver.node_at(LAB, next(iter(endpoints.values())))
        if node is None:
            return ""  # of the other lab: always well
        if "app" not in endpoints:
            return "" if self._world.scaler.alive else "no scaler yet"
        reply = self._world.agents.health(node)
        return "" if reply.status == 200 else reply.reason or "unwell"

    def serving(self, scaler_url: str, token: str, nodes: frozenset[str]) -> frozenset[str]:
        """See Prober."""
        world = self._world
        if world.driver.node_at(LAB, scaler_url) is None:
            return nodes
        if not world.scaler.alive:
            return frozenset()
        status = world.scaler.desk.status()
        if status.balancer.backends != self._travelled.balancer.backends:
            self._travelled = decode(ScalerStatus, encode(status))
        backends = self._travelled.balancer.backends
        return nodes.intersection(n for group in backends.values() for n in group)

    def refused(self, url: str) -> str:
        """See Prober."""
        return ""

    def mute(self, address: str) -> str:
        """See Prober."""
        return ""


@dataclass(frozen=True)
class Before:
    """What there is before our lab: another one, in the registry and in the driver."""

    disk: bytes
    servers: Mapping[tuple[str, str], ServerSpec]


@functools.cache
def other_lab() -> Before:
    """Made once, by a server-manager of its own."""
    with tempfile.TemporaryDirectory() as folder, closing(new_disk()) as disk:
        clock = FakeClock()
        driver = FakeDriver(clock)
        database = SimDatabase(disk, lambda where: None, Disk())
        core = make_core(Path(folder), database, driver, FakeProber(), clock, Inline())
        data = {"lab": OTHER, "driver": "fake", "scaling": None, "groups": groups(2)}
        Manager(core).put(OTHER, data)
        return Before(disk.serialize(), {k: s.spec for k, s in driver._servers.items()})


def groups(count: int) -> list[dict[str, object]]:
    return [
        {"name": "control", "role": "control"},
        {"name": "agent", "role": "agent", "count": count},
    ]


def draw_scaling(rng: random.Random, provoked: str) -> Scaling:
    """Rules as a lab file may hold them, but quicker than most; with standby nodes if what will be
    provoked happens to them alone."""
    standby = rng.choice((0, 0, 0, 1, 2))
    if provoked in people.FROZEN:
        standby = max(1, standby)
    least = rng.randint(1, 3)
    return Scaling(
        min=least,
        max=least + rng.randint(1, 2),
        interval_s=rng.choice((1.0, 2.0, 4.0)),
        cooldown_out_s=rng.choice((2.0, 5.0)),
        cooldown_in_s=rng.choice((3.0, 8.0)),
        evaluation_periods=rng.choice((1, 1, 2)),
        drain_s=rng.choice((2.0, 5.0)),
        standby=standby,
        removal=rng.choice(("power_off", "power_off", "destroy")),
    )
