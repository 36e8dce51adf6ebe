"""Drivers over the fake Incus, and specs for them."""

import dataclasses
from pathlib import Path
from typing import Any

from labcore.clock import FakeClock
from server_manager.drivers.base import Forward, ServerSpec
from server_manager.drivers.incus.records import Records
from server_manager.drivers.incus.settings import IncusSettings
from server_manager.drivers.incus.ways import Ways
from server_manager.paths import StatePaths
from tests.contract.incus_rigs import ImagedDriver, NoWays, fake_incus
from tests.contract.rigs import make_spec
from tests.drivers.incus.fake_incus import FakeIncus


def driver_of(
    root: Path, fake: FakeIncus, ways: type[Ways] = NoWays, **settings: Any
) -> ImagedDriver:
    clock = FakeClock()
    made = IncusSettings(**settings)
    records = Records(lambda ref: root / "labs" / ref.lab / "nodes" / ref.name)
    keys = StatePaths(root).ssh
    return ImagedDriver(
        fake_incus(root, fake, made), ways(root / "ways", clock), records, clock, keys
    )


def spec_of(name: str, number: int = 1, **changes: object) -> ServerSpec:
    group = "control" if name == "control" else name.rpartition("-")[0]
    port = (Forward("sleeper", 5000 + number, 5000),)
    spec = dataclasses.replace(make_spec(name), group=group, number=number, forwards=port)
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
