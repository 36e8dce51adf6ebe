"""Servers made from a live image: saved until they start, and then given their seed."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labcore.errors import LabError
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.virtualbox.driver import VirtualBoxDriver
from server_manager.drivers.virtualbox.fake.world import Fault, plan
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import EMPTY, Machine
from server_manager.drivers.virtualbox.settings import live_uuid, machine_uuid
from tests.contract.image_contract import Shop
from tests.contract.rigs import make_spec
from tests.contract.test_images import shop_of
from tests.contract.virtualbox_rigs import fake_library, real_library, world

LIBRARIES = {"fake": fake_library, "real": real_library}


class Yard:
    """A live image of 128 MiB and one CPU, and servers of it."""

    def __init__(self, shop: Shop, library: Library) -> None:
        assert isinstance(shop.driver, VirtualBoxDriver)
        self.shop, self.driver, self.library = shop, shop.driver, library
        self.build = shop.frozen()

    def spec(self, **changes: object) -> ServerSpec:
        plain = {"image": self.build.ref.id, "network": "nat", "cpus": 1.0, "memory_mib": 128}
        return dataclasses.replace(make_spec(), **{**plain, **changes})  # type: ignore[arg-type]

    def machine(self, spec: ServerSpec) -> Machine:
        found = self.library.find(machine_uuid(spec.ref))
        assert found is not None
        return found

    def seed(self, spec: ServerSpec) -> str:
        directory = self.driver.get(spec.ref).directory
        assert directory is not None
        return str(directory / "seed.iso")


@contextmanager
def yard_in(root: Path, library: Callable[[Path], Callable[[], Library]]) -> Iterator[Yard]:
    """One below `root`, whose servers are destroyed in the end."""
    with shop_of(root, library(root)) as shop:
        made = Yard(shop, library(root)())
        yield made
        plan(world(root))
        for server in made.driver.servers(make_spec().ref.lab):
            made.driver.destroy(server.ref)


@pytest.fixture(
    params=["fake", pytest.param("real", marks=(pytest.mark.virtualbox, pytest.mark.slow))]
)
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    with yard_in(tmp_path, LIBRARIES[request.param]) as made:
        yield made


def test_one_of_its_size_is_saved_and_gets_its_seed_when_it_runs(yard: Yard):
    spec = yard.spec()
    yard.driver.create(spec)
    yard.driver.create(spec)
    made = yard.machine(spec)
    assert (made.state, made.disc) == ("saved", EMPTY)
    assert {rule.host_port for rule in made.rules} == {f.host_port for f in spec.forwards}
    assert yard.driver.get(spec.ref).state is PowerState.SAVED
    yard.driver.start(spec.ref)
    running = yard.machine(spec)
    assert (running.state, running.disc) == ("running", yard.seed(spec))
    yard.driver.start(spec.ref)
    yard.driver.stop(spec.ref, force=True)
    assert yard.driver.get(spec.ref).state is PowerState.STOPPED
    yard.driver.start(spec.ref)  # from now on it boots, with its seed in the drive
    assert yard.machine(spec).disc == yard.seed(spec)


def test_its_ports_may_change_before_it_runs(yard: Yard):
    spec = yard.spec()
    yard.driver.create(spec)
    moved = tuple(dataclasses.replace(f, host_port=f.host_port + 7) for f in spec.forwards)
    spec = dataclasses.replace(spec, forwards=moved)
    yard.driver.stop(spec.ref, force=True)
    yard.driver.create(spec)
    yard.driver.start(spec.ref)
    machine = yard.machine(spec)
    assert machine.disc == yard.seed(spec)
    assert {rule.host_port for rule in machine.rules} == {f.host_port for f in moved}


@pytest.mark.parametrize("changes", [{"memory_mib": 160}, {"cpus": 2.0}, {"network": "internal"}])
def test_others_are_cloned_cold(yard: Yard, changes: dict[str, object]):
    spec = yard.spec(**changes)
    yard.driver.create(spec)
    made = yard.machine(spec)
    assert (made.state, made.disc) == ("poweroff", yard.seed(spec))


def test_the_image_goes_with_its_live_machine_but_not_while_one_needs_it(yard: Yard):
    spec = yard.spec()
    yard.driver.create(spec)
    with pytest.raises(LabError, match="clones of"):
        yard.driver.remove_image(yard.build.ref)
    assert yard.library.find(live_uuid(yard.build.ref.id)) is not None
    yard.driver.destroy(spec.ref)
    yard.driver.remove_image(yard.build.ref)
    assert yard.library.find(live_uuid(yard.build.ref.id)) is None


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Yard]:
    with yard_in(tmp_path, fake_library) as made:
        yield made


@pytest.mark.parametrize("fault", ["refused", "svc-died", "error-at-0", "hang", "skipped"])
@pytest.mark.parametrize("command", ["clonevm", "modifyvm", "setextradata", "startvm"])
def test_whatever_call_fails_the_same_calls_again_end_with_a_seed(
    faulty: Yard, tmp_path: Path, command: str, fault: str
):
    spec = faulty.spec()
    plan(world(tmp_path), Fault(command, fault))
    try:
        faulty.driver.create(spec)
        faulty.driver.start(spec.ref)
    except LabError:
        faulty.driver.create(spec)
        faulty.driver.start(spec.ref)
    machine = faulty.machine(spec)
    assert (machine.state, machine.disc) == ("running", faulty.seed(spec))


def test_one_that_runs_without_its_seed_gets_it_at_the_next_start(faulty: Yard, tmp_path: Path):
    spec = faulty.spec()
    faulty.driver.create(spec)
    plan(world(tmp_path), Fault("storageattach", "refused"))
    with pytest.raises(LabError):
        faulty.driver.start(spec.ref)
    assert faulty.machine(spec).disc == EMPTY
    faulty.driver.start(spec.ref)
    assert faulty.machine(spec).disc == faulty.seed(spec)


def make_live(yard: Yard) -> None:
    yard.driver.boot_live(yard.build)
    yard.driver.freeze_live(yard.build.ref)


@pytest.mark.parametrize("command", ["clonevm", "modifyvm", "storageattach", "startvm", "snapshot"])
@pytest.mark.parametrize("fault", ["refused", "svc-died", "hang"])
def test_whatever_call_fails_the_next_try_makes_the_live_machine(
    faulty: Yard, tmp_path: Path, command: str, fault: str
):
    plan(world(tmp_path), Fault(command, fault))
    try:
        make_live(faulty)
    except LabError:
        make_live(faulty)
    assert faulty.driver.live(faulty.build.ref).state is PowerState.STOPPED
