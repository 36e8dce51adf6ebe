"""Images of the fake driver: made, booted and failing as they are told to, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from labcore.clock import Clock
from labcore.errors import Conflict, LabError, NotFound
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef
from server_manager.drivers.imaging import BuilderState, DriverImage, ImageBuild, ImageRef, Teller

PLACE = "images"  # stands for the lab where a call about an image is planned or noted
ARCH = "amd64"
SIZE_MIB = 100


@dataclasses.dataclass
class _FakeImage:
    image: DriverImage
    source: str
    on_since: float | None = None
    problem: str | None = None
    provisioned: bool = False
    printed: tuple[str, ...] = ()
    live_since: float | None = None  # None: no live machine runs
    is_frozen: bool = False


class FakeImages:
    """See ImageMaking and LiveMaking.

    A mixin: the driver makes its calls fail as planned, and has the clock.
    """

    _clock: Clock
    _boot_s: float

    def __init__(self) -> None:
        self._images: dict[str, _FakeImage] = {}

    def _call(self, operation: str, ref: ServerRef, do: Callable[[], None]) -> None:
        raise NotImplementedError

    def prepare_image(self, build: ImageBuild, teller: Teller) -> DriverImage:
        """See ImageMaking."""

        def do() -> None:
            there = self._own_image(build.ref)
            if there is not None and there.image.handle is not None:
                raise Conflict(f"image {build.ref.name} is finished", "remove it first")
            made = DriverImage(build.ref, None, ARCH)
            self._images[build.ref.name] = _FakeImage(made, build.source)

        for done in (0, 50, 100):
            teller.progress(done, 100)
        self._call("prepare_image", _server(build.ref), do)
        return self._existing_image(build.ref).image

    def boot_builder(self, build: ImageBuild) -> None:
        """See ImageMaking."""

        def do() -> None:
            builder = self._existing_image(build.ref)
            if builder.on_since is None:
                builder.on_since, builder.problem = self._clock.monotonic(), None
                builder.printed = ("booting",)

        self._call("boot_builder", _server(build.ref), do)

    def provision_builder(self, build: ImageBuild, archive: bytes, teller: Teller) -> None:
        """See ImageMaking."""

        def do() -> None:
            self._existing_image(build.ref).provisioned = True
            teller.line("provision: done")

        self._call("provision_builder", _server(build.ref), do)

    def builder(self, ref: ImageRef) -> BuilderState:
        """See ImageMaking."""
        try:
            self._call("builder", _server(ref), lambda: None)
        except LabError as error:
            return BuilderState(PowerState.UNKNOWN, str(error))
        builder = self._own_image(ref)
        if builder is None or builder.image.handle is not None:
            return BuilderState(PowerState.ABSENT)
        if builder.on_since is None:
            return BuilderState(PowerState.STOPPED, builder.problem, builder.printed)
        booted = self._clock.monotonic() - builder.on_since >= self._boot_s
        return BuilderState(
            PowerState.RUNNING if booted else PowerState.STARTING, None, builder.printed
        )

    def stop_builder(self, ref: ImageRef, *, force: bool = False) -> None:
        """See ImageMaking."""

        def do() -> None:
            builder = self._own_image(ref)
            if builder is not None:
                builder.on_since = None

        self._call("stop_builder", _server(ref), do)

    def finish_image(self, ref: ImageRef) -> DriverImage:
        """See ImageMaking."""

        def do() -> None:
            builder = self._existing_image(ref)
            if builder.on_since is not None:
                raise Conflict(f"the builder of image {ref.name} runs")
            builder.image = dataclasses.replace(
                builder.image, handle=f"fake-{ref.id}", size_mib=SIZE_MIB
            )

        self._call("finish_image", _server(ref), do)
        return self._existing_image(ref).image

    def boot_live(self, build: ImageBuild) -> None:
        """See LiveMaking."""

        def do() -> None:
            image = self._existing_image(build.ref)
            if image.image.handle is None:
                raise Conflict(f"image {build.ref.name} is not finished")
            image.live_since, image.is_frozen = self._clock.monotonic(), False

        self._call("boot_live", _server(build.ref), do)

    def live(self, ref: ImageRef) -> BuilderState:
        """See LiveMaking."""
        image = self._own_image(ref)
        if image is None or (image.live_since is None and not image.is_frozen):
            return BuilderState(PowerState.ABSENT)
        if image.live_since is None:
            return BuilderState(PowerState.STOPPED)
        booted = self._clock.monotonic() - image.live_since >= self._boot_s
        return BuilderState(PowerState.RUNNING if booted else PowerState.STARTING, waits=booted)

    def freeze_live(self, ref: ImageRef) -> None:
        """See LiveMaking."""

        def do() -> None:
            state = self.live(ref)
            if state.state is PowerState.ABSENT:
                raise NotFound(f"image {ref.name} has no live machine")
            image = self._existing_image(ref)
            if not state.waits and not image.is_frozen:
                raise Conflict(f"the live machine of image {ref.name} does not wait for a seed")
            image.live_since, image.is_frozen = None, True

        self._call("freeze_live", _server(ref), do)

    def remove_image(self, ref: ImageRef) -> None:
        """See ImageMaking."""

        def do() -> None:
            there = self._own_image(ref)
            if there is None:
                return
            clones = self._clones(there.image.handle)
            if clones:
                raise Conflict(f"image {ref.name} has clones: {', '.join(clones)}")
            del self._images[ref.name]

        self._call("remove_image", _server(ref), do)

    def images(self) -> tuple[DriverImage, ...]:
        """See ImageMaking."""
        self._call("images", ServerRef(PLACE, "", ""), lambda: None)
        return tuple(
            dataclasses.replace(one.image, clones=self._clones(one.image.handle))
            for _, one in sorted(self._images.items())
        )

    def builder_dies(self, name: str, problem: str) -> None:
        """A builder powers itself off, having printed why. Raises KeyError."""
        builder = self._images[name]
        builder.on_since, builder.problem = None, problem
        builder.printed += (problem,)

    def lose_images(self) -> None:
        """Somebody else removes all images and builders."""
        self._images.clear()

    def keep_builder(self, name: str, *, running: bool) -> Callable[[], None]:
        """Remember a builder; what is returned brings it back, as a crash would have left it."""
        kept = self._images[name]
        kept.on_since = kept.on_since if running else None
        copy = dataclasses.replace(kept)

        def back() -> None:
            self._images[name] = copy

        return back

    def _clones(self, handle: str | None) -> tuple[str, ...]:
        raise NotImplementedError

    def _own_image(self, ref: ImageRef) -> _FakeImage | None:
        there = self._images.get(ref.name)
        return there if there is not None and there.image.ref == ref else None

    def _existing_image(self, ref: ImageRef) -> _FakeImage:
        there = self._own_image(ref)
        if there is None:
            raise NotFound(f"there is no image {ref.name}")
        return there


def _server(ref: ImageRef) -> ServerRef:
    return ServerRef(PLACE, ref.name, ref.id)
