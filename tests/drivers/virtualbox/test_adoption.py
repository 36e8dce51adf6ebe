"""Machines of others: noted, marked, driven and let go, on a VBoxManage; their own stays theirs."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.errors import Conflict, DriverFailed, NotFound
from labcore.services import CATALOGUE
from labcore.wire.lab import PowerState
from server_manager.drivers.base import Forward, ServerRef, ServerSpec
from server_manager.drivers.virtualbox.adoption import described
from server_manager.drivers.virtualbox.driver import VirtualBoxDriver
from server_manager.drivers.virtualbox.fake.world import Fault, plan
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import parse_info
from server_manager.ssh_keys import make_pair
from tests.contract.rigs import SSH
from tests.contract.virtualbox_rigs import (
    ClonedDriver,
    cloned_driver,
    fake_library,
    real_library,
    world,
)

RECORDED = Path(__file__).parent / "recorded-7.2.22"
numbers = itertools.count(1)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.virtualbox)])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClonedDriver]:
    library = fake_library(tmp_path) if request.param == "fake" else real_library(tmp_path)
    with cloned_driver(tmp_path, library) as made:
        yield made


@dataclasses.dataclass
class Theirs:
    """A machine that somebody made by hand."""

    library: Library
    name: str
    uuid: str
    port: int

    def set(self, *words: str) -> None:
        self.library.vbox.change("modifyvm", self.uuid, *words)

    def start(self) -> None:
        self.library.vbox.change("startvm", self.uuid, "--type", "headless")

    @property
    def marks(self) -> dict[str, str]:
        extra = self.library.extradata(self.uuid)
        return {key: value for key, value in extra.items() if key.startswith("labctl/")}

    def settings(self) -> dict[str, str]:
        """All that `showvminfo` tells, but what changes by itself."""
        machine = self.library.find(self.uuid)
        assert machine is not None
        return {k: v for k, v in machine.info.items() if k not in ("VMState", "VMStateChangeTime")}


@pytest.fixture
def theirs(driver: ClonedDriver, tmp_path: Path) -> Iterator[Theirs]:
    """Off, with a forward whose name is not that of a service."""
    library, number = driver._make_library(), next(numbers)
    name = f"labctl-test-outside-{tmp_path.name}-{number}"
    library.vbox.change(
        *("createvm", "--name", name, "--ostype", "Debian_64", "--register"),
        *("--basefolder", str(tmp_path / "theirs")),
    )
    (uuid,) = [uuid for uuid, other in library.names().items() if other == name]
    machine = Theirs(library, name, uuid, 31_000 + number)
    machine.set("--memory", "64", "--nic1", "nat", "--audio-driver", "none")
    machine.set("--natpf1", f"web,tcp,127.0.0.1,{machine.port},,5000")
    yield machine
    if (found := library.find(uuid)) is not None:
        if found.state == "running":
            library.vbox.change("controlvm", uuid, "poweroff")
        library.unregister(found)


def spec_of(machine: Theirs, name: str = "agent-1") -> ServerSpec:
    return ServerSpec(
        ref=ServerRef("adopted", name, machine.uuid),
        group="agent",
        role="agent",
        region="main",
        cpus=1,
        memory_mib=64,
        services=(CATALOGUE["app"],),
        forwards=(Forward("app", machine.port, 5000),),
        network="nat",
        ssh=SSH,
    )


def test_it_is_described_as_it_is(driver: VirtualBoxDriver, theirs: Theirs):
    for called in (theirs.name, theirs.uuid):
        told = driver.outside(called)
        assert (told.id, told.name, told.state) == (theirs.uuid, theirs.name, PowerState.STOPPED)
        assert told.forwards == {5000: theirs.port}
        assert (told.memory_mib, told.cpus, told.network) == (64, 1.0, "")
        assert told.hardware_id == theirs.uuid


def test_an_unknown_name_and_one_that_labctl_made(driver: ClonedDriver, theirs: Theirs):
    with pytest.raises(NotFound, match="no machine 'nobody'"):
        driver.outside("nobody")
    made = dataclasses.replace(spec_of(theirs), ref=ServerRef("adopted", "agent-2", "id-2"))
    driver.create(made)
    uuid = next(u for u, n in theirs.library.names().items() if n == "adopted-agent-2")
    for ours in (uuid, str(driver.image)):
        with pytest.raises(Conflict, match="made by labctl itself"):
            driver.outside(ours)


def test_adopted_it_is_driven_and_nothing_of_it_changes(driver: ClonedDriver, theirs: Theirs):
    spec = spec_of(theirs)
    before = theirs.settings()
    driver.adopt(spec)
    driver.adopt(spec)
    assert theirs.marks["labctl/server"] == theirs.uuid
    (told,) = driver.servers("adopted")
    assert (told.ref, told.state) == (spec.ref, PowerState.STOPPED)
    assert told.endpoints["host"] == {"app": f"127.0.0.1:{theirs.port}"}
    driver.start(spec.ref)
    assert driver.get(spec.ref).state is PowerState.RUNNING
    driver.pause(spec.ref)
    driver.resume(spec.ref)
    driver.stop(spec.ref, force=True)
    assert driver.get(spec.ref).state is PowerState.STOPPED
    assert theirs.settings() == before
    driver.release(spec.ref)


def test_released_it_is_as_before_and_may_be_adopted_again(driver: ClonedDriver, theirs: Theirs):
    spec = spec_of(theirs)
    driver.adopt(spec)
    theirs.start()
    driver.release(spec.ref)
    driver.release(spec.ref)
    assert theirs.marks == {}
    assert driver.servers("adopted") == ()
    assert driver.get(spec.ref).state is PowerState.ABSENT
    assert driver.outside(theirs.uuid).state is PowerState.RUNNING
    driver.adopt(spec)
    driver.release(spec.ref)


def test_marks_that_silently_were_not_set_are_told(driver: ClonedDriver, theirs: Theirs, tmp_path):
    if theirs.library.names() and not world(tmp_path).exists():
        pytest.skip("a real VirtualBox does so when it likes")
    plan(world(tmp_path), Fault("setextradata", "skipped"))
    with pytest.raises(DriverFailed, match="did not keep the marks"):
        driver.adopt(spec_of(theirs))
    driver.adopt(spec_of(theirs))
    driver.release(spec_of(theirs).ref)


@pytest.mark.parametrize("call", ["create", "destroy"])
def test_neither_create_nor_destroy_touches_it(driver: ClonedDriver, theirs: Theirs, call: str):
    spec = spec_of(theirs)
    driver.adopt(spec)
    with pytest.raises(Conflict, match="is adopted"):
        driver.create(spec) if call == "create" else driver.destroy(spec.ref)
    assert theirs.library.find(theirs.uuid) is not None
    driver.release(spec.ref)


def test_the_marks_of_another_labctl_are_respected(driver: ClonedDriver, theirs: Theirs):
    marks = {"labctl/lab": "other", "labctl/node": "agent-1", "labctl/uuid": theirs.uuid}
    theirs.library.mark(theirs.uuid, marks)
    with pytest.raises(Conflict, match="marked as other/agent-1"):
        driver.adopt(spec_of(theirs))
    # A copy made in the GUI has the marks of its original, whose UUID they tell.
    theirs.library.mark(theirs.uuid, {"labctl/uuid": "that of the original"})
    driver.adopt(spec_of(theirs))
    assert theirs.marks["labctl/lab"] == "adopted"
    driver.release(spec_of(theirs).ref)


def test_one_that_was_deleted_is_absent_and_released(driver: ClonedDriver, theirs: Theirs):
    spec = spec_of(theirs)
    driver.adopt(spec)
    theirs.library.vbox.change("unregistervm", theirs.uuid, "--delete")
    assert driver.get(spec.ref).state is PowerState.ABSENT
    with pytest.raises(NotFound):
        driver.start(spec.ref)
    driver.release(spec.ref)
    assert driver.servers("adopted") == ()


def test_one_that_was_renamed_is_the_same(driver: ClonedDriver, theirs: Theirs):
    driver.adopt(spec_of(theirs))
    theirs.set("--name", theirs.name + "-renamed")
    (told,) = driver.servers("adopted")
    assert told.state is PowerState.STOPPED
    driver.release(spec_of(theirs).ref)
    assert theirs.marks == {}


def test_its_seed_sets_the_address_on_its_own_second_nic(driver: ClonedDriver, theirs: Theirs):
    theirs.set("--nic2", "intnet", "--intnet2", "vagrants", "--mac-address2", "080027ABCDEF")
    assert driver.outside(theirs.uuid).network == "vagrants"
    pair = make_pair("host")
    ssh = dataclasses.replace(SSH, host_key=pair.private, host_public=pair.public)
    spec = dataclasses.replace(spec_of(theirs), network="internal", number=7, ssh=ssh)
    network = driver.seed(spec).files["network"].content.decode()
    assert network == "mac=08:00:27:ab:cd:ef\naddress=10.93.0.7/16\n"


def test_what_virtualbox_recorded_is_read():
    running = described(parse_info((RECORDED / "showvminfo-running.txt").read_text()))
    assert running.state is PowerState.RUNNING
    assert running.hardware_id == "222ac607-b876-472d-8c0d-2dcc0dbd2119"
    assert running.reaches_host
    assert running.forwards
    assert all(isinstance(port, int) for port in running.forwards.values())
