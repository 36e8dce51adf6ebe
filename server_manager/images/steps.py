"""What a build does in each step. Every step may be begun again, and stops once it is cancelled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from labcore.errors import Conflict, DriverFailed, LabError, TimedOut
from labcore.waiting import NotYet, wait_until
from labcore.wire.image import Image, ImageState, ImageStep
from labcore.wire.lab import PowerState
from server_manager.core import Core
from server_manager.drivers.base import Driver, ImageSupport
from server_manager.drivers.imaging import (
    BuilderState,
    DriverImage,
    ImageBuild,
    ImageMaking,
    ImageRef,
    LiveMaking,
)
from server_manager.guest import provisioning
from server_manager.images.login import make_login
from server_manager.images.records import ref_of
from server_manager.images.sources import UNPACKED, bring
from server_manager.images.teller import BuildTeller
from server_manager.ports import LOOPBACK

T = TypeVar("T")
DEAD = (PowerState.STOPPED, PowerState.ABSENT, PowerState.ERROR, PowerState.LOST)
SILENT_S = 300.0  # of the labctl that provisions, until it counts as gone
BOOT_LIMIT_S = 900.0  # nobody knows yet how slow this disk is here; a dead one ends it at once
PROVISION_LIMIT_S = 6 * 3600.0
OFF_LIMIT_S = 300.0
POLL_S = 0.05  # at first; 1 s in the end


@dataclass
class Build:
    """One run of one image's build, and what labctl has told of it."""

    image: Image
    teller: BuildTeller
    heard_at: float  # when labctl was heard last, on the clock
    provisioned: bool = False
    problem: LabError | None = None  # why labctl could not provision


def image_making(driver: Driver) -> tuple[ImageMaking, ImageSupport]:
    """A driver that makes images, and how; raises Conflict for others."""
    support = driver.capabilities().images
    if support is None:
        raise Conflict(f"driver {driver.name!r} uses no images", "nothing is to be built for it")
    making: ImageMaking = driver  # type: ignore[assignment]  # what the capability promises
    return making, support


class Steps:
    """The steps of one build, in order."""

    def __init__(self, core: Core, build: Build) -> None:
        self._core = core
        self._build = build
        self._driver = core.drivers.get(build.image.driver)
        self._making, self._support = image_making(self._driver)
        self._ref = ref_of(build.image)
        self._directory = core.paths.image(build.image.driver, build.image.name)

    def all(self) -> None:
        """Everything, from the source to the image; raises what went wrong first."""
        wish = self._build.image.wish
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = self._do(ImageStep.FETCH, self._fetch)
        build = self._image_build(source)
        made = self._do(ImageStep.CONVERT, lambda: self._convert(build))
        self._change(arch=made.arch)
        if wish.provision:
            self._do(ImageStep.BOOT, lambda: self._boot(build))
            self._do(ImageStep.PROVISION, lambda: self._provision(build), self._address(build))
            self._do(ImageStep.SEAL, self._seal)
        self._finish()

    def rest(self) -> None:
        """What is left after a crash when the builder was sealed already."""
        if self._build.image.step is ImageStep.SEAL:
            self._do(ImageStep.SEAL, self._seal)
        self._finish()

    def _finish(self) -> None:
        made = self._do(ImageStep.SNAPSHOT, lambda: self._making.finish_image(self._ref))
        if self._build.image.wish.live:
            self._do(ImageStep.LIVE, self._freeze_live)
        self._ready(made)

    def undo(self) -> None:
        """Remove the builder, which would run for ever; what was downloaded stays."""
        self._making.remove_image(self._ref)
        shutil.rmtree(self._directory / UNPACKED, ignore_errors=True)

    def _do(self, step: ImageStep, work: Callable[[], T], address: str | None = None) -> T:
        self._build.teller.check()
        self._change(step=step, address=address)
        with self._build.teller.step(step, address):
            return work()

    def _change(self, **fields: object) -> None:
        self._build.image = self._core.images.change(self._build.image, **fields)

    def _fetch(self) -> str:
        image = self._build.image
        if self._support.source == "name":
            return image.source
        disk, digest = bring(
            image.source, image.wish.sha512, self._directory, self._core.clock, self._build.teller
        )
        self._change(sha512=digest, arch=disk.arch)
        return str(disk.path)

    def _image_build(self, source: str) -> ImageBuild:
        image = self._build.image
        by_ssh = image.wish.provision and self._support.provisioned_by == "ssh"
        seed = None
        if by_ssh and image.wish.login == "seed":
            seed = make_login(self._core.paths.image_login(image.driver, image.name), image.id)
        return ImageBuild(
            ref=self._ref,
            directory=self._directory,
            source=source,
            cpus=image.wish.cpus,
            memory_mib=image.wish.memory_mib,
            provision=image.wish.provision,
            seed=seed,
            ssh_port=self._core.ports.free(set()) if by_ssh else 0,
            app_image=Path(image.wish.app_image) if image.wish.app_image else None,
        )

    def _address(self, build: ImageBuild) -> str | None:
        return f"{LOOPBACK}:{build.ssh_port}" if build.ssh_port else None

    def _convert(self, build: ImageBuild) -> DriverImage:
        made = self._making.prepare_image(build, self._build.teller)
        shutil.rmtree(self._directory / UNPACKED, ignore_errors=True)
        return made

    def _boot(self, build: ImageBuild) -> None:
        began = self._core.clock.monotonic()
        self._making.boot_builder(build)
        address = self._address(build)

        def probe() -> None:
            state = self._living(self._making.builder)
            if state.state is not PowerState.RUNNING:
                raise NotYet(f"it is {state.state}")
            why = self._core.prober.mute(address) if address else ""
            if why:
                raise NotYet("; ".join((why, *state.console[-1:])))

        limit_s = max(self._driver.capabilities().boot_limit_s, BOOT_LIMIT_S)
        self._wait(probe, "the builder to boot", limit_s)
        self._change(boot_s=round(self._core.clock.monotonic() - began, 1))

    def _living(self, look: Callable[[ImageRef], BuilderState]) -> BuilderState:
        self._build.teller.check()
        state = look(self._ref)
        if state.state in DEAD:
            raise DriverFailed(
                f"the builder is {state.state}: {state.problem or 'it ended by itself'}",
                "the last lines are what it printed; the same labctl image build begins again",
                state.console,
            )
        return state

    def _provision(self, build: ImageBuild) -> None:
        if self._support.provisioned_by == "driver":
            self._making.provision_builder(build, provisioning.archive(), self._build.teller)
        else:
            self._wait_for_labctl()
        self._change(provision_digest=provisioning.digest())

    def _wait_for_labctl(self) -> None:
        self._build.heard_at = self._core.clock.monotonic()

        def probe() -> None:
            self._build.teller.check()
            if self._build.problem is not None:
                raise self._build.problem
            if self._build.provisioned:
                return
            self._living(self._making.builder)
            if self._core.clock.monotonic() - self._build.heard_at > SILENT_S:
                raise TimedOut(
                    f"no labctl provisions the builder: none was heard of for {SILENT_S:.0f} s",
                    "the same labctl image build begins again",
                )
            raise NotYet("labctl is at it")

        self._wait(probe, "labctl to provision the builder", PROVISION_LIMIT_S)

    def _seal(self) -> None:
        """It is sealed; what is left is that it is off. Never by force: its disk would be torn."""
        asked = False

        def probe() -> None:
            nonlocal asked
            state = self._making.builder(self._ref)
            if state.state is PowerState.STOPPED:
                return
            if state.state is PowerState.ABSENT:
                raise DriverFailed("the builder is gone")
            if not asked:
                self._making.stop_builder(self._ref)
                asked = True
            raise NotYet(f"it is {state.state}")

        self._wait(probe, "the builder to power off", OFF_LIMIT_S)

    def _freeze_live(self) -> None:
        making: LiveMaking = self._driver  # type: ignore[assignment]  # what the capability promises
        making.boot_live(self._image_build(""))

        def waits() -> None:
            state = self._living(making.live)
            if not state.waits:
                raise NotYet("; ".join((f"it is {state.state}", *state.console[-1:])))

        limit_s = max(self._driver.capabilities().boot_limit_s, BOOT_LIMIT_S)
        self._wait(waits, "the live machine to wait for a seed", limit_s)
        making.freeze_live(self._ref)

    def _ready(self, made: DriverImage) -> None:
        self._change(
            state=ImageState.READY,
            handle=made.handle,
            arch=made.arch or self._build.image.arch,
            size_mib=made.size_mib,
            step=None,
            problem=None,
            address=None,
        )
        # What was downloaded, and the keys of the first login: of no use any more.
        for entry in (*self._directory.glob("download*"), self._login()):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)

    def _login(self) -> Path:
        image = self._build.image
        return self._core.paths.image_login(image.driver, image.name)

    def _wait(self, probe: Callable[[], None], name: str, limit_s: float) -> None:
        wait_until(
            probe,
            name=name,
            limit_s=limit_s,
            clock=self._core.clock,
            hint="the same labctl image build begins again",
            interval_s=POLL_S,
        )
