import pytest

from labcore.clock import SystemClock
from server_manager.drivers.virtualbox.fake.world import Fault, opened, plan
from tests.contract.virtualbox_rigs import cloned_driver, fake_library, world


class Bench:
    """The driver on a fake VirtualBox, and a hand in that one's works."""

    def __init__(self, root, library, driver):
        self.root, self.library, self.driver = root, library, driver
        self.clock = SystemClock()

    def plan(self, command, what, times=1):
        """The next calls of a command go wrong."""
        plan(world(self.root), Fault(command, what, times))

    def world(self):
        """What the fake knows, to change it behind everybody's back."""
        return opened(world(self.root))

    def put(self, uuid, **values):
        with self.world() as known:
            for name, value in values.items():
                setattr(known.machines[uuid], name, value)


@pytest.fixture
def bench(tmp_path):
    library = fake_library(tmp_path)
    with cloned_driver(tmp_path, library) as driver:
        yield Bench(tmp_path, library(), driver)
        plan(world(tmp_path))
