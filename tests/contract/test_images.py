"""The contract of making images, driver by driver."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labcore.clock import FakeClock, SystemClock
from server_manager.drivers.fake import FakeDriver
from server_manager.drivers.imaging import ImageBuild
from server_manager.drivers.virtualbox.driver import VirtualBoxDriver
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.live import WAITING
from server_manager.images.cloud import host_arch
from tests.contract.image_contract import ImageContract, Shop
from tests.contract.incus_rigs import IMAGE, real_driver
from tests.contract.virtualbox_rigs import fake_library, real_library, remains
from tests.images.disks import ESP, gpt, mbr, write
from tests.ssh.sshd import free_port


@contextmanager
def fake_shop(root: Path) -> Iterator[Shop]:
    clock = FakeClock()
    yield Shop(FakeDriver(clock, boot_s=3.0), clock, root, "a disk")


@contextmanager
def virtualbox_shop(root: Path) -> Iterator[Shop]:
    with shop_of(root, real_library(root)) as made:
        yield made


@contextmanager
def fake_virtualbox_shop(root: Path) -> Iterator[Shop]:
    with shop_of(root, fake_library(root)) as made:
        yield made


@contextmanager
def shop_of(root: Path, library: Callable[[], Library]) -> Iterator[Shop]:
    """Whatever a test leaves is removed, and what is left then is a failure."""
    clock = SystemClock()
    driver = VirtualBoxDriver(
        lambda ref: root / "labs" / ref.lab / ref.name,
        image_directory=lambda name: root / "images" / name,
        clock=clock,
        library=library,
    )
    loader = {"amd64": b"BOOTX64 EFI", "arm64": b"BOOTAA64EFI"}[host_arch()]
    good = mbr() if host_arch() == "amd64" else gpt(ESP, loader=loader)
    source = write(root / "good.raw", good)
    bad = write(root / "bad.raw", mbr(active=False))
    shop = Shop(
        driver, clock, root / "images", str(source), str(bad), free_port(), say_waiting=say_waiting
    )
    yield shop
    for image in shop.mine():
        driver.remove_image(image.ref)
    assert remains(root, library()) == []


def say_waiting(build: ImageBuild) -> None:
    """A line of a seed reader, into the file that its serial port writes."""
    with Folder(build.directory).live.serial.open("a") as serial:
        serial.write(f"{WAITING}\n")


@contextmanager
def incus_shop(root: Path) -> Iterator[Shop]:
    with real_driver(root) as driver:
        shop = Shop(driver, SystemClock(), root, IMAGE, "no-such-image")
        yield shop
        for image in shop.mine():
            driver.remove_image(image.ref)


SHOPS = {
    "fake": fake_shop,
    "virtualbox-fake": fake_virtualbox_shop,
    "virtualbox": virtualbox_shop,
    "incus": incus_shop,
}
MARKS = {"virtualbox": (pytest.mark.virtualbox,), "incus": (pytest.mark.incus,)}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in SHOPS])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with SHOPS[request.param](tmp_path) as made:
        yield made


class TestImages(ImageContract):
    pass
