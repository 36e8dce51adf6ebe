"""Images of VirtualBox: whatever call fails or is only half believed, and a whole real build."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labcore.errors import Conflict, DriverUnusable, LabError, UsageProblem
from labctl.cli.main import main
from server_manager.drivers.imaging import ImageBuild
from server_manager.drivers.virtualbox.builders import machine_settings
from server_manager.drivers.virtualbox.converting import Converter
from server_manager.drivers.virtualbox.fake.world import Fault, plan
from server_manager.drivers.virtualbox.library import Library
from server_manager.images.disks import Boot
from tests.contract.image_contract import Progress, Shop
from tests.contract.test_images import shop_of
from tests.contract.virtualbox_rigs import fake_library, real_library, remains, world
from tests.images.disks import MIB, mbr, vdi, write

# Read before a test's environment is cleaned. The disk is one that `root` may log in to.
DISK = os.environ.get("LABCTL_TEST_GUEST_DISK")
KEY = os.environ.get("LABCTL_TEST_GUEST_KEY")
COMMANDS = (
    "convertfromraw",
    "modifymedium",
    "createvm",
    "modifyvm",
    "storagectl",
    "storageattach",
    "setextradata",
    "snapshot",
)


@pytest.fixture
def library(tmp_path: Path) -> Callable[[], Library]:
    return fake_library(tmp_path)


@pytest.fixture
def shop(tmp_path: Path, library: Callable[[], Library]) -> Iterator[Shop]:
    with shop_of(tmp_path, library) as made:
        yield made


def make(shop: Shop, build: ImageBuild) -> None:
    if not any(image.handle for image in shop.driver.images()):
        shop.driver.prepare_image(build, Progress())
    shop.driver.finish_image(build.ref)


@pytest.mark.parametrize("fault", ["refused", "svc-died", "error-at-0", "hang"])
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_call_fails_the_same_calls_again_make_the_image(
    shop: Shop, tmp_path: Path, command: str, fault: str
):
    build = shop.build()
    plan(world(tmp_path), Fault(command, fault))
    with pytest.raises(LabError):
        make(shop, build)
    make(shop, build)
    assert shop.driver.finish_image(build.ref).handle == build.ref.id
    shop.driver.remove_image(build.ref)
    assert shop.driver.images() == ()


@pytest.mark.parametrize("command", ["unregistervm", "closemedium", "controlvm"])
def test_a_removal_that_failed_may_be_called_again(shop: Shop, tmp_path: Path, command: str):
    build = shop.prepared()
    shop.driver.boot_builder(build)
    plan(world(tmp_path), Fault(command, "refused"))
    try:
        shop.driver.remove_image(build.ref)
    except LabError:
        shop.driver.remove_image(build.ref)
    assert shop.driver.images() == ()


def test_a_finished_image_has_neither_the_way_in_nor_the_disc(
    shop: Shop, library: Callable[[], Library], tmp_path: Path
):
    seed = write(tmp_path / "seed.iso", b"a disc")
    build = shop.prepared(seed=seed)
    before = library().find(build.ref.id)
    assert before is not None
    assert [(rule.name, rule.guest_port) for rule in before.rules] == [("ssh", 22)]
    assert before.info["SATA-1-0"] == str(seed)
    shop.driver.finish_image(build.ref)
    after = library().find(build.ref.id)
    assert after is not None
    assert after.rules == ()
    assert after.info["SATA-1-0"] == "none"
    assert after.snapshot


def test_a_machine_that_lies_elsewhere_is_left_alone(
    shop: Shop, library: Callable[[], Library], tmp_path: Path
):
    build, elsewhere = shop.build(), tmp_path / "elsewhere"
    change = library().vbox.change
    change(
        *("createvm", "--name", "mine", "--uuid", build.ref.id),
        *("--basefolder", str(elsewhere), "--register"),
    )
    with pytest.raises(Conflict, match="left alone"):
        shop.driver.prepare_image(build, Progress())
    with pytest.raises(Conflict, match="left alone"):
        shop.driver.remove_image(build.ref)
    assert library().find(build.ref.id) is not None
    change("unregistervm", build.ref.id, "--delete")


def test_a_vdi_is_copied_and_one_that_is_only_a_difference_is_refused(
    library: Callable[[], Library], tmp_path: Path
):
    content = vdi(mbr())
    source, target = write(tmp_path / "a.vdi", content), tmp_path / "b.vdi"
    Converter("").convert(library().vbox, source, target, Progress())
    assert target.read_bytes() == content
    difference = bytearray(content)
    difference[0x4C] = 4
    write(source, bytes(difference))
    with pytest.raises(UsageProblem, match="only the differences"):
        Converter("").convert(library().vbox, source, tmp_path / "c.vdi", Progress())


def test_qcow2_needs_qemu_img(library: Callable[[], Library], tmp_path: Path):
    source = write(tmp_path / "a.qcow2", b"QFI\xfb\0\0\0\3" + bytes(MIB))
    with pytest.raises(DriverUnusable, match="cannot read") as refusal:
        Converter(str(tmp_path)).convert(library().vbox, source, tmp_path / "b.vdi", Progress())
    assert "qemu-utils" in refusal.value.hint


def test_efi_disks_get_efi_machines(shop: Shop):
    for boot in (Boot("efi", "arm64"), Boot("bios", "amd64")):
        words = machine_settings(shop.build(), Path("serial"), boot)
        assert words[words.index("--firmware") + 1] == boot.firmware


@pytest.mark.virtualbox
@pytest.mark.slow
@pytest.mark.skipif(not (DISK and KEY), reason="LABCTL_TEST_GUEST_DISK and _KEY name a guest")
def test_a_real_build_from_a_guests_disk(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    name = f"test-{os.getpid()}"
    login = ["--ssh-user", "root", "--ssh-key", str(KEY), "--memory-mib", "512", "--cpus", "1"]
    made = ["image", "build", str(DISK), "--driver", "virtualbox", "--name", name, "--live", *login]
    try:
        assert main([*made, "-o", "json"]) == 0, capsys.readouterr().err
        image = json.loads(capsys.readouterr().out)
        assert (image["state"], image["arch"]) == ("ready", "amd64")
        assert image["boot_s"] > 0
    finally:
        assert main(["image", "remove", name]) == 0
        main(["server", "stop"])
    state = Path(os.environ["LABCTL_STATE_DIR"])
    assert remains(state, real_library(state)()) == []
