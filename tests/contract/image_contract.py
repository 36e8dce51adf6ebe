"""Every promise of server_manager/drivers/imaging.py: inherit, give a `shop`."""

import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labcore.clock import Clock
from labcore.errors import Conflict, NotFound, UsageProblem
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.fake_images import FakeImages
from server_manager.drivers.imaging import (
    DriverImage,
    ImageBuild,
    ImageMaking,
    ImageRef,
    LiveMaking,
)
from server_manager.drivers.virtualbox.driver import VirtualBoxDriver


@dataclass
class Progress:
    told: list[tuple[float, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def progress(self, done: float, total: float) -> None:
        self.told.append((done, total))

    def line(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Shop:
    """A driver that makes images, what it can make one of, and what it cannot."""

    driver: ImageMaking
    clock: Clock
    root: Path  # below which images belong, each in a folder of its name
    source: str
    unusable: str | None = None
    free_port: int = 0
    ids: set[str] = field(default_factory=set)
    # Lets the live machine say that it waits for a seed, where no system in it does.
    say_waiting: Callable[[ImageBuild], None] = lambda build: None

    def mine(self) -> list[DriverImage]:
        """The images of this test: a real back end may have others."""
        return [image for image in self.driver.images() if image.ref.id in self.ids]

    def build(self, name: str = "test-base", **changes: object) -> ImageBuild:
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        plain = ImageBuild(
            ref=ImageRef(name, str(uuid.uuid4())),
            directory=directory,
            source=self.source,
            cpus=1,
            memory_mib=128,
            provision=True,
            ssh_port=self.free_port,
        )
        self.ids.add(plain.ref.id)
        return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]

    def prepared(self, **changes: object) -> ImageBuild:
        build = self.build(**changes)  # type: ignore[arg-type]
        self.driver.prepare_image(build, Progress())
        return build

    def finished(self, **changes: object) -> ImageBuild:
        build = self.prepared(**changes)
        self.driver.finish_image(build.ref)
        return build

    @property
    def live(self) -> LiveMaking:
        if not isinstance(self.driver, FakeImages | VirtualBoxDriver):
            pytest.skip("makes no live images")
        return self.driver

    def booted_live(self) -> ImageBuild:
        """A finished image whose live machine runs, and waits."""
        build = self.finished()
        self.live.boot_live(build)
        self.say_waiting(build)

        def probe() -> None:
            if not self.live.live(build.ref).waits:
                raise NotYet

        wait_until(probe, name="a live machine that waits", limit_s=60, clock=self.clock)
        return build

    def frozen(self) -> ImageBuild:
        build = self.booted_live()
        self.live.freeze_live(build.ref)
        return build

    def wait_for(self, ref: ImageRef, state: PowerState) -> None:
        def probe() -> None:
            found = self.driver.builder(ref)
            if found.state is not state:
                raise NotYet(f"{found.state}: {found.problem}")

        wait_until(probe, name=f"builder {state}", limit_s=60, clock=self.clock)


class ImageContract:
    def test_prepare_makes_a_stopped_builder(self, shop: Shop):
        build, progress = shop.build(), Progress()
        made = shop.driver.prepare_image(build, progress)
        assert made.ref == build.ref
        assert made.handle is None
        assert progress.lines or progress.told[-1][0] == progress.told[-1][1] > 0
        assert shop.driver.builder(build.ref).state is PowerState.STOPPED

    def test_prepare_again_begins_again(self, shop: Shop):
        build = shop.prepared()
        shop.driver.boot_builder(build)
        shop.wait_for(build.ref, PowerState.RUNNING)
        shop.driver.prepare_image(build, Progress())
        assert shop.driver.builder(build.ref).state is PowerState.STOPPED

    def test_boot_and_stop_may_be_called_again(self, shop: Shop):
        build = shop.prepared()
        shop.driver.boot_builder(build)
        shop.wait_for(build.ref, PowerState.RUNNING)
        shop.driver.boot_builder(build)
        assert shop.driver.builder(build.ref).state is PowerState.RUNNING
        for _ in range(2):
            shop.driver.stop_builder(build.ref, force=True)
            assert shop.driver.builder(build.ref).state is PowerState.STOPPED

    def test_what_runs_cannot_be_finished(self, shop: Shop):
        build = shop.prepared()
        shop.driver.boot_builder(build)
        shop.wait_for(build.ref, PowerState.RUNNING)
        with pytest.raises(Conflict):
            shop.driver.finish_image(build.ref)
        shop.driver.stop_builder(build.ref, force=True)
        assert shop.driver.finish_image(build.ref).handle

    def test_finish_gives_a_handle_and_the_same_again(self, shop: Shop):
        build = shop.prepared()
        made = shop.driver.finish_image(build.ref)
        assert made.handle
        assert shop.driver.finish_image(build.ref).handle == made.handle
        assert [image.handle for image in shop.mine()] == [made.handle]
        assert shop.driver.builder(build.ref).state is PowerState.ABSENT

    def test_a_finished_image_is_not_made_again(self, shop: Shop):
        build = shop.finished()
        with pytest.raises(Conflict):
            shop.driver.prepare_image(build, Progress())
        assert [image.ref for image in shop.mine()] == [build.ref]

    @pytest.mark.parametrize("step", ["prepared", "running", "finished"])
    def test_remove_leaves_nothing(self, shop: Shop, step: str):
        build = shop.finished() if step == "finished" else shop.prepared()
        if step == "running":
            shop.driver.boot_builder(build)
        for _ in range(2):
            shop.driver.remove_image(build.ref)
            assert shop.mine() == []
            assert shop.driver.builder(build.ref).state is PowerState.ABSENT

    def test_the_absent(self, shop: Shop):
        nobody = ImageRef("test-nobody", str(uuid.uuid4()))
        assert shop.driver.builder(nobody).state is PowerState.ABSENT
        shop.driver.stop_builder(nobody)
        shop.driver.remove_image(nobody)
        with pytest.raises(NotFound):
            shop.driver.finish_image(nobody)
        with pytest.raises(NotFound):
            shop.driver.boot_builder(shop.build("test-nobody"))

    def test_half_made_ones_are_told_without_a_handle(self, shop: Shop):
        first, second = shop.prepared(name="test-one"), shop.finished(name="test-two")
        told = {image.ref: image.handle for image in shop.mine()}
        assert told[first.ref] is None
        assert told[second.ref]

    def test_what_cannot_be_used_is_refused(self, shop: Shop):
        if shop.unusable is None:
            pytest.skip("takes anything")
        build = shop.build(source=shop.unusable)
        with pytest.raises(UsageProblem) as refusal:
            shop.driver.prepare_image(build, Progress())
        assert refusal.value.hint
        shop.driver.remove_image(build.ref)
        assert shop.mine() == []

    def test_a_live_machine_is_frozen_once_it_waits(self, shop: Shop):
        build = shop.booted_live()
        assert shop.live.live(build.ref).state is PowerState.RUNNING
        for _ in range(2):
            shop.live.freeze_live(build.ref)
            assert shop.live.live(build.ref).state is PowerState.STOPPED
        assert [image.ref for image in shop.mine()] == [build.ref]

    def test_a_live_machine_that_does_not_wait_is_not_frozen(self, shop: Shop):
        build = shop.finished()
        shop.live.boot_live(build)
        if not shop.live.live(build.ref).waits:
            with pytest.raises(Conflict):
                shop.live.freeze_live(build.ref)

    def test_a_live_machine_is_made_again(self, shop: Shop):
        build = shop.frozen()
        shop.live.boot_live(build)
        assert shop.live.live(build.ref).state in (PowerState.STARTING, PowerState.RUNNING)

    @pytest.mark.parametrize("frozen", [False, True])
    def test_a_live_machine_goes_with_its_image(self, shop: Shop, frozen: bool):
        build = shop.frozen() if frozen else shop.booted_live()
        for _ in range(2):
            shop.driver.remove_image(build.ref)
            assert shop.live.live(build.ref).state is PowerState.ABSENT

    def test_no_live_machine_of_what_is_not_finished(self, shop: Shop):
        assert shop.live.live(ImageRef("test-nobody", str(uuid.uuid4()))).state is PowerState.ABSENT
        with pytest.raises(NotFound):
            shop.live.boot_live(shop.build("test-nobody"))
        build = shop.prepared()
        with pytest.raises(Conflict):
            shop.live.boot_live(build)
        with pytest.raises(NotFound):
            shop.live.freeze_live(build.ref)
