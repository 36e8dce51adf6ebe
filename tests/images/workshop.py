"""A server-manager that builds images over the fake driver, and the part of labctl in it."""

import dataclasses
from pathlib import Path

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event
from labcore.wire.image import Image, ImageState, ImageStep, ImageWish, image_topic
from server_manager.drivers.fake import CAPABILITIES, FakeDriver
from server_manager.executors import Threads
from server_manager.images.images import Images
from tests.images.disks import mbr, write
from tests.server_manager.parts import Parts, make_parts

NAME = "base"
TOPIC = image_topic("fake", NAME)


class Workshop:
    """With real threads; a test plays labctl."""

    def __init__(self, root: Path, state: Path | None = None) -> None:
        self.root = root
        self._state = state or root / "state"
        assert CAPABILITIES.images is not None
        required = dataclasses.replace(CAPABILITIES.images, required=True)
        capabilities = dataclasses.replace(CAPABILITIES, images=required)
        self.driver = FakeDriver(SystemClock(), capabilities=capabilities)
        self.disk = write(root / "disk.raw", mbr())
        self.parts = self.start()

    def start(self) -> Parts:
        """A server-manager for the same directory and driver, as after the death of another."""
        self.parts = make_parts(
            self._state, driver=self.driver, executor=Threads(), clock=SystemClock()
        )
        return self.parts

    @property
    def images(self) -> Images:
        return self.parts.manager.images

    def wish(self, **changes: object) -> ImageWish:
        values: dict[str, object] = {"source": str(self.disk), "login": "given", **changes}
        return ImageWish(**values)  # type: ignore[arg-type]

    def begin(self, **changes: object) -> int:
        return self.images.put("fake", NAME, self.wish(**changes))

    def at(self, step: ImageStep) -> None:
        """Wait until the build is at a step; it fails if the build ends before."""

        def probe() -> None:
            image = self.parts.core.images.find("fake", NAME)
            if image is None:
                raise NotYet("it is not begun")
            assert image.state is ImageState.BUILDING, image.problem
            if image.step is not step:
                raise NotYet(str(image.step))

        wait_until(probe, name=f"step {step}", limit_s=10, clock=SystemClock())

    def provision(self) -> None:
        self.at(ImageStep.PROVISION)
        self.images.provisioned("fake", NAME, None)

    def ended(self) -> Image:
        def probe() -> None:
            if not self.images.none_is_built():
                raise NotYet

        wait_until(probe, name="the end", limit_s=10, clock=SystemClock(), interval_s=0.005)
        return self.images.one("fake", NAME)

    def end_all(self) -> None:
        """Nothing goes on in the background any more."""
        if not self.images.none_is_built():
            self.images.cancel("fake", NAME)
            self.ended()
        runs = self.parts.manager.runs
        for lab in self.parts.core.labs.all():
            runs.cancel(lab.name)

        def probe() -> None:
            if not runs.none_is_on():
                raise NotYet

        wait_until(probe, name="the end of runs", limit_s=10, clock=SystemClock())

    def built(self) -> Image:
        self.begin()
        self.provision()
        return self.ended()

    def events(self) -> tuple[Event, ...]:
        return self.parts.core.events.after(0, TOPIC, 1000)

    def end(self) -> Event:
        return self.events()[-1]

    def left_at(self, step: ImageStep) -> None:
        """As if the server-manager had died in a step: its row says so, the builder is there."""
        self.begin()
        self.at(ImageStep.PROVISION)
        image = self.parts.core.images.get("fake", NAME)
        kept = self.driver.keep_builder(NAME, running=step is not ImageStep.SNAPSHOT)
        self.images.cancel("fake", NAME)
        self.ended()
        kept()
        self.start()
        self.parts.core.images.change(image, state=ImageState.BUILDING, step=step, problem=None)
