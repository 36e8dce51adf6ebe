"""Only a machine whose UUID, marks and record agree is ever changed."""

import dataclasses

import pytest

from labcore.errors import Conflict, NotFound
from labcore.wire.lab import PowerState
from server_manager.drivers.virtualbox import settings
from server_manager.drivers.virtualbox.settings import machine_uuid
from tests.contract.rigs import make_spec

NAME = "contract-agent-1"


@pytest.fixture
def made(bench):
    spec = make_spec()
    bench.driver.create(spec)
    return spec.ref


def make_foreign(bench, name: str, extradata: dict[str, str] | None = None) -> str:
    """Somebody's own machine, perhaps a clone that inherited our marks."""
    folder = bench.root / "theirs"
    bench.library.vbox.change("createvm", "--name", name, "--basefolder", str(folder), "--register")
    uuid = next(u for u, n in bench.library.names().items() if n == name and u not in OURS)
    bench.library.mark(uuid, extradata or {})
    return str(uuid)


OURS = {machine_uuid(make_spec().ref)}


def is_untouched(bench, uuid: str, extradata: dict[str, str]) -> bool:
    machine = bench.library.find(uuid)
    return machine is not None and dict(bench.library.extradata(uuid)) == extradata


def remove(bench, uuid: str) -> None:
    bench.library.vbox.change("unregistervm", uuid, "--delete")


def test_the_marks_of_a_machine(bench, made):
    uuid = machine_uuid(made)
    marks = bench.library.extradata(uuid)
    assert marks["labctl/lab"] == "contract"
    assert marks["labctl/node"] == "agent-1"
    assert marks["labctl/uuid"] == uuid
    assert marks["labctl/server"] == made.id
    machine = bench.library.find(uuid)
    assert machine.name == NAME
    assert machine.info["groups"] == "/labctl/contract"


def test_a_machine_of_a_lab_that_is_gone_is_a_stray(bench, made):
    foreign = make_foreign(bench, "theirs")
    assert bench.driver.strays(["contract"]) == ()
    (stray,) = bench.driver.strays(["other"])
    assert (stray.name, stray.lab) == (NAME, "contract")
    assert stray.remove == f"VBoxManage unregistervm {machine_uuid(made)} --delete"
    remove(bench, foreign)


def test_a_machine_of_others_with_the_name_is_left_alone_and_reported(bench):
    foreign = make_foreign(bench, NAME)
    with pytest.raises(Conflict, match=NAME) as refusal:
        bench.driver.create(make_spec())
    assert foreign in refusal.value.hint
    bench.driver.stop(make_spec().ref, force=True)
    bench.driver.destroy(make_spec().ref)
    assert is_untouched(bench, foreign, {})
    remove(bench, foreign)


def test_a_clone_that_inherited_the_marks_is_not_ours(bench, made):
    marks = dict(bench.library.extradata(machine_uuid(made)))
    foreign = make_foreign(bench, f"{NAME} Clone", marks)
    assert [s.ref for s in bench.driver.servers("contract")] == [made]
    bench.driver.destroy(made)
    assert is_untouched(bench, foreign, marks)
    remove(bench, foreign)


@pytest.mark.parametrize(
    "other", [{settings.LAB: "prod"}, {settings.SERVER: "another"}, {settings.UUID: "x"}]
)
def test_a_machine_with_other_marks_is_not_changed(bench, made, other):
    uuid = machine_uuid(made)
    right = dict(bench.library.extradata(uuid))
    bench.library.mark(uuid, other)
    for call in (bench.driver.start, bench.driver.destroy):
        with pytest.raises(Conflict, match="left alone"):
            call(made)
    bench.put(uuid, state="running")
    with pytest.raises(Conflict, match="left alone"):
        bench.driver.stop(made, force=True)
    assert bench.driver.get(made).state is PowerState.RUNNING
    bench.library.mark(uuid, right)


def test_a_machine_that_was_renamed_is_the_same(bench, made):
    with bench.world() as known:
        machine = known.machines[machine_uuid(made)]
        machine.file.rename(machine.file.with_name("Mine.vbox"))
        machine.name = "Mine"
    bench.driver.start(made)
    assert bench.driver.get(made).state is PowerState.RUNNING
    bench.driver.destroy(made)
    assert bench.driver.get(made).state is PowerState.ABSENT


def test_a_machine_that_others_are_clones_of_is_not_removed(bench, made):
    vbox, uuid = bench.library.vbox, machine_uuid(made)
    vbox.change("snapshot", uuid, "take", "theirs")
    folder = str(bench.root / "theirs")
    vbox.change(
        *("clonevm", uuid, "--snapshot", "theirs", "--options", "link", "--name", "theirs"),
        *("--basefolder", folder, "--register"),
    )
    with pytest.raises(Conflict, match="clones of"):
        bench.driver.destroy(made)
    assert bench.driver.get(made).state is PowerState.STOPPED
    clone = next(u for u, n in bench.library.names().items() if n == "theirs")
    remove(bench, clone)


def test_without_an_image_nothing_is_made(bench):
    bench.driver.image = None
    with pytest.raises(NotFound, match="no image"):
        bench.driver.create(make_spec())
    bench.driver.image = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(NotFound, match="no image"):
        bench.driver.create(make_spec())
    bench.driver.destroy(make_spec().ref)
    bench.driver.image = next(iter(bench.library.names()))


def test_the_forwards_of_the_image_are_not_those_of_its_clones(bench, made):
    names = {rule.name for rule in bench.library.find(machine_uuid(made)).rules}
    assert names == {"sleeper", "ssh"}


def test_new_forwards_reach_a_saved_machine(bench):
    spec = make_spec()
    bench.driver.create(spec)
    bench.put(machine_uuid(spec.ref), state="saved")
    assert bench.driver.get(spec.ref).state is PowerState.SAVED
    moved = make_spec(host_port=18044)
    bench.driver.create(moved)
    bench.driver.start(spec.ref)
    rules = bench.library.find(machine_uuid(spec.ref)).rules
    assert [rule.host_port for rule in rules] == [18044, 19044]


def test_the_settings_of_an_internal_network():
    spec = dataclasses.replace(make_spec(), number=258, manager_port=3000)
    from pathlib import Path

    stored = settings.stored(spec, Path("/x/serial.log"))
    assert stored["intnet2"] == "labctl-contract"
    assert stored["macaddress2"] == "0800275D0102"
    network = settings.guest_network(spec)
    assert (network.address, network.mac) == ("10.93.1.2/16", "08:00:27:5d:01:02")
    assert network.manager_host == "10.0.2.2"
    assert settings.endpoints(spec)["node"]["sleeper"] == "10.93.1.2:5000"
    nat = dataclasses.replace(spec, network="nat")
    assert settings.endpoints(nat)["node"]["sleeper"] == "10.0.2.2:18001"
    assert settings.stored(nat, Path("/x"))["nic2"] == "none"
    assert settings.guest_network(nat).mac is None
    assert stored["localhostReachable"] == "1"
    lonely = dataclasses.replace(spec, manager_port=None)
    assert settings.stored(lonely, Path("/x"))["localhostReachable"] == "0"
