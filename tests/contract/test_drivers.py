"""The driver contract, driver by driver."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.driver_contract import DriverContract
from tests.contract.rigs import RIGS, Rig

MARKS = {
    "local": (pytest.mark.local,),
    "virtualbox": (pytest.mark.virtualbox,),
    "incus": (pytest.mark.incus,),
}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in RIGS])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path) as made:
        yield made


class TestDrivers(DriverContract):
    pass
