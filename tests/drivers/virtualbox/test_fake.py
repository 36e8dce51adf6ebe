"""The fake VBoxManage says and does what the real one says and does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.clock import SystemClock
from labcore.errors import DriverFailed, LabError
from server_manager.drivers.virtualbox.driver import find_library
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import Medium
from server_manager.drivers.virtualbox.vboxmanage import (
    NoSuchMachine,
    NotRunning,
    SessionLocked,
    SettingsExist,
    VBoxManage,
)
from tests.contract.virtualbox_rigs import (
    fake_library,
    fake_program,
    make_image,
    real_library,
    remains,
)

PROGRAMS = ["inside", "program", pytest.param("real", marks=pytest.mark.virtualbox)]
NAME = f"labctl-test-clone-{os.getpid()}"


@pytest.fixture(params=PROGRAMS)
def library(request, tmp_path: Path) -> Iterator[Library]:
    if request.param == "real":
        made = real_library(tmp_path)()
    elif request.param == "program":
        folder = str(fake_program(tmp_path).parent)
        made = find_library(folder, {}, tmp_path, SystemClock())()
    else:
        made = fake_library(tmp_path)()
    yield made
    left = [m for m in made.all() if Path(m.settings).is_relative_to(tmp_path)]
    for machine in left[::-1]:  # clones before what they are clones of
        if machine.state in ("running", "paused"):
            made.vbox.change("controlvm", machine.uuid, "poweroff")
        made.vbox.change("unregistervm", machine.uuid, "--delete")
    assert remains(tmp_path, made) == []


@pytest.fixture
def image(library: Library, tmp_path: Path) -> str:
    return make_image(tmp_path / "image", library)


def clone(library: Library, image: str, folder: Path, name: str = NAME, *more: str) -> str:
    library.vbox.change(
        *("clonevm", image, "--snapshot", "prepared", "--options", "link", "--name", name),
        *("--basefolder", str(folder), "--register", *more),
    )
    return next(m.uuid for m in library.all() if Path(m.settings).is_relative_to(folder))


def media_in(library: Library, folder: Path) -> list[Medium]:
    return [m for _, m in library.media() if Path(m.location).is_relative_to(folder)]


def refusal(library: Library, *words: str) -> LabError:
    with pytest.raises(LabError) as refused:
        library.vbox.change(*words)
    return refused.value


def test_what_is_refused_and_how(library, image, tmp_path):
    uuid = clone(library, image, tmp_path / "one")
    refused = {
        "no machine": refusal(library, "startvm", "no-such-machine"),
        "off": refusal(library, "controlvm", uuid, "pause"),
        "exists": refusal(
            library,
            *("createvm", "--name", NAME, "--basefolder", str(tmp_path / "one"), "--register"),
        ),
        "no snapshot": refusal(
            library,
            *("clonevm", image, "--snapshot", "none", "--options", "link", "--name", "x"),
            *("--basefolder", str(tmp_path / "x"), "--register"),
        ),
        "too little memory": refusal(library, "modifyvm", uuid, "--memory", "1"),
        "no such option": refusal(library, "controlvm", uuid, "frobnicate"),
        "no such disk": refusal(
            library,
            *("storageattach", uuid, "--storagectl", "SATA", "--port", "0", "--device", "0"),
            *("--type", "hdd", "--medium", str(tmp_path / "none.vdi")),
        ),
        "no such NIC, at exit code 0": refusal(library, "modifyvm", uuid, "--nic9", "nat"),
    }
    assert {what: type(error) for what, error in refused.items()} == {
        "no machine": NoSuchMachine,
        "off": NotRunning,
        "exists": SettingsExist,
        "no snapshot": DriverFailed,
        "too little memory": DriverFailed,
        "no such option": NotRunning,
        "no such disk": DriverFailed,
        "no such NIC, at exit code 0": DriverFailed,
    }
    assert all(error.hint for error in refused.values())


def test_a_session_keeps_others_out(library, image, tmp_path):
    uuid = clone(library, image, tmp_path / "one")
    library.vbox.change("startvm", uuid, "--type", "headless")
    assert library.find(uuid).state == "running"
    for words in (
        ("startvm", uuid, "--type", "headless"),
        ("modifyvm", uuid, "--memory", "64"),
        ("unregistervm", uuid, "--delete"),
    ):
        assert type(refusal(library, *words)) is SessionLocked
    library.vbox.change("controlvm", uuid, "pause")
    assert library.find(uuid).state == "paused"
    assert type(refusal(library, "controlvm", uuid, "pause")) is DriverFailed
    library.vbox.change("controlvm", uuid, "resume")
    library.vbox.change("controlvm", uuid, "poweroff")
    assert library.find(uuid).state == "poweroff"


def test_silent_surprises(library, image, tmp_path):
    folder = tmp_path / "one"
    uuid = clone(library, image, folder, NAME, "--groups", "/labctl/x")
    made = library.find(uuid)
    assert made.info["groups"] == "/"  # though it was told a group, and its folder has it
    assert made.settings == str(folder / "labctl" / "x" / NAME / f"{NAME}.vbox")
    assert library.extradata(uuid)["labctl/image"] == "empty"  # inherited
    library.vbox.change("modifyvm", uuid, "--natpf1", "big,tcp,127.0.0.1,70000,,22")
    assert {r.name: r.host_port for r in made.rules} == {"old": 29999}
    assert {r.name: r.host_port for r in library.find(uuid).rules} == {"big": 4464, "old": 29999}
    library.vbox.change("modifyvm", uuid, "--groups", "/labctl/y")
    assert "/labctl/y/" in library.find(uuid).settings  # the folder moves
    again = clone(library, image, tmp_path / "two")  # a second one of the same name
    assert [name for name in library.names().values() if name == NAME] == [NAME, NAME]
    assert again != uuid


def test_the_same_uuid_twice_leaves_files_behind(library, image, tmp_path):
    uuid = clone(library, image, tmp_path / "one")
    with pytest.raises(DriverFailed, match="already exists"):
        clone(library, image, tmp_path / "two", "other", "--uuid", uuid)
    left = media_in(library, tmp_path / "two")
    assert len(left) == 1
    library.vbox.change("closemedium", "disk", left[0].uuid, "--delete")
    (tmp_path / "two" / "other" / "other.vbox").unlink()


def test_a_disk_with_children_keeps_its_machine_from_going(library, image, tmp_path):
    uuid = clone(library, image, tmp_path / "one")
    error = refusal(library, "closemedium", "disk", library.find(uuid).info["SATA-ImageUUID-0-0"])
    assert isinstance(error, DriverFailed)  # it is attached
    assert len(media_in(library, tmp_path / "one")) == 1


def test_the_program_is_as_good_as_the_real_one_to_whoever_runs_it(tmp_path):
    program = fake_program(tmp_path)
    vbox = VBoxManage(str(program), lock=tmp_path / "lock", clock=SystemClock())
    assert vbox.read("--version").startswith("7.2")
    with pytest.raises(DriverFailed, match="Invalid command"):
        vbox.read("dance")
