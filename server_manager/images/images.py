"""The use cases of images: build, follow, list, remove, and which one a lab is made from."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import uuid

from labcore.clock import rfc3339
from labcore.errors import Conflict, DriverUnusable, Interrupted, LabError, NotFound
from labcore.names import check_name
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import EventKind
from labcore.wire.image import Image, ImageState, ImageStep, ImageWish, image_topic
from server_manager.core import Core
from server_manager.executors import Task
from server_manager.images.cloud import host_arch
from server_manager.images.records import ref_of
from server_manager.images.sources import check_wish, origin
from server_manager.images.steps import Build, Steps, image_making
from server_manager.images.teller import BuildTeller

END_LIMIT_S = 180.0
# From here on a build ends without labctl.
SEALED = (ImageStep.SEAL, ImageStep.SNAPSHOT, ImageStep.LIVE)
ENDED = "the server-manager ended while it was built"
_log = logging.getLogger(__name__)


class Images:
    """All images. A build goes on in the background; at most one for each image."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._on: dict[tuple[str, str], Build] = {}

    def recover(self) -> None:
        """Finish what was sealed when the process before this one ended, undo other builds."""
        for image in self._core.images.all():
            if image.state is not ImageState.BUILDING:
                continue
            if image.step in SEALED:
                build = self._build(image)
                self._start(build, Steps(self._core, build).rest)
            else:
                # Written at once: who wishes for it now begins it again, and joins no undoing.
                image = self._core.images.change(image, state=ImageState.BROKEN, problem=ENDED)
                self._start(self._build(image), _give_up)

    def put(self, driver: str, name: str, wish: ImageWish) -> int:
        """Wish for an image; the number of the run, whose end is an event with that `run`.

        The same wish again joins what goes on, is nothing for an image that is ready, and begins a
        broken one again. Raises UsageProblem, DriverUnusable, and Conflict for another wish.
        """
        check_name(name, "image")
        found = self._core.drivers.get(driver)
        _, support = image_making(found)
        check_wish(wish, support)
        health = found.health()
        if not health.ok:
            raise DriverUnusable(f"driver {driver!r}: {health.reason}", health.fix)
        source = origin(wish, support, host_arch)
        self._wait_for_undoing(driver, name)
        with self._core.database.transaction():
            image = self._core.images.find(driver, name)
            if image is not None and self._stands(image):
                if image.wish == wish:
                    return image.run
                raise Conflict(
                    f"image {name!r} {_is(image)} from something else: {image.source}",
                    f"labctl image remove {name}, or give this one another --name",
                )
            image = self._written(image, driver, name, wish, source)
        self._start(build := self._build(image), Steps(self._core, build).all)
        return image.run

    def _wait_for_undoing(self, driver: str, name: str) -> None:
        image = self._core.images.find(driver, name)
        if image is not None and image.state is ImageState.BROKEN:
            self._wait_for_end(image)

    def _stands(self, image: Image) -> bool:
        return self._true(image).state is not ImageState.BROKEN

    def _written(
        self, image: Image | None, driver: str, name: str, wish: ImageWish, source: str
    ) -> Image:
        """The wish, written down, and the event that begins its run."""
        topic = image_topic(driver, name)
        if image is None:
            self._core.events.forget(topic)
        # What an earlier build left is found by the same id.
        identity = image.id if image else str(uuid.uuid4())
        run = self._core.events.publish(topic, EventKind.IMAGE, f"image {name}: build begins")
        at = rfc3339(self._core.clock.now())
        new = Image(name, driver, identity, ImageState.BUILDING, at, wish, run, source)
        return self._core.images.put(new)

    def _build(self, image: Image) -> Build:
        clock = self._core.clock
        return Build(image, BuildTeller(image, self._core.events, clock), clock.monotonic())

    def _start(self, build: Build, work: Task) -> None:
        key = (build.image.driver, build.image.name)
        with self._lock:
            self._on[key] = build
        self._core.executor.start(f"image-{key[0]}-{key[1]}", lambda: self._carry_out(build, work))

    def _carry_out(self, build: Build, work: Task) -> None:
        state, problem = "ready", None
        try:
            work()
        except LabError as error:
            state, problem = "broken", error
        except Exception as error:
            _log.exception("image %s", build.image.name)
            state, problem = "broken", LabError(f"internal error: {error!r}", "see the log")
        try:
            if problem is not None:
                state = "cancelled" if isinstance(problem, Interrupted) else state
                problem = self._undone(build, problem)
        finally:
            with self._lock:
                self._on.pop((build.image.driver, build.image.name), None)
            build.teller.end(state, problem)

    def _undone(self, build: Build, problem: LabError) -> LabError:
        """Leave no builder behind, and write down why there is no image."""
        try:
            Steps(self._core, build).undo()
        except LabError as error:
            more = (f"its builder could not be removed: {error.message}",)
            problem.details += more
        self._core.images.change(
            build.image, state=ImageState.BROKEN, problem=problem.message, address=None
        )
        return problem

    def going_on(self, driver: str, name: str) -> Build:
        """The build of an image that goes on; raises NotFound, and Conflict if none does."""
        image = self._core.images.get(driver, name)
        with self._lock:
            build = self._on.get((driver, name))
        if build is None:
            raise Conflict(f"image {name!r} is not being built: it is {image.state}")
        return build

    def heard(self, driver: str, name: str) -> None:
        """labctl is at work on the builder. Raises as `going_on`."""
        build = self.going_on(driver, name)
        build.teller.check()
        build.heard_at = self._core.clock.monotonic()

    def provisioned(self, driver: str, name: str, problem: LabError | None) -> None:
        """labctl has provisioned and sealed the builder, or could not. Raises as `going_on`."""
        build = self.going_on(driver, name)
        if build.image.step is not ImageStep.PROVISION:
            raise Conflict(f"image {name!r} is at step {build.image.step}, not at provision")
        build.problem, build.provisioned = problem, problem is None

    def cancel(self, driver: str, name: str) -> None:
        """Let a build begin nothing more; nothing happens if none goes on. Raises NotFound."""
        self._core.images.get(driver, name)
        with self._lock:
            build = self._on.get((driver, name))
        if build is not None:
            build.teller.cancelled.set()

    def none_is_built(self) -> bool:
        """Whether no build goes on."""
        with self._lock:
            return not self._on

    def remove(self, driver: str, name: str) -> None:
        """Stop its build, then remove an image with all its files. Raises NotFound; Conflict,
        naming them, while labs are made from it."""
        image = self._core.images.get(driver, name)
        labs = self._labs(image)
        if labs:
            raise Conflict(
                f"image {name!r} is what these labs are cloned from: {', '.join(labs)}",
                f"labctl destroy --lab {labs[0]} first",
                labs,
            )
        self.cancel(driver, name)
        self._wait_for_end(image)
        making, _ = image_making(self._core.drivers.get(driver))
        # The row goes last: after a crash in between, the same call finds what is left.
        making.remove_image(ref_of(image))
        shutil.rmtree(self._core.paths.image(driver, name), ignore_errors=True)
        self._core.images.remove(image)

    def _wait_for_end(self, image: Image) -> None:
        def probe() -> None:
            with self._lock:
                if (image.driver, image.name) in self._on:
                    raise NotYet("it goes on")

        name = f"the end of the build of image {image.name!r}"
        wait_until(probe, name=name, limit_s=END_LIMIT_S, clock=self._core.clock)

    def all(self) -> tuple[Image, ...]:
        """Every image as it is now, the newest first."""
        return tuple(self._true(image) for image in self._core.images.all())

    def one(self, driver: str, name: str) -> Image:
        """One image as it is now; raises NotFound."""
        return self._true(self._core.images.get(driver, name))

    def _true(self, image: Image) -> Image:
        """With its labs; what its driver does not know any more is broken. Where the driver cannot
        be asked, what was written counts."""
        image = dataclasses.replace(image, labs=self._labs(image))
        if image.state is not ImageState.READY:
            return image
        try:
            known = image_making(self._core.drivers.get(image.driver))[0].images()
        except LabError:
            return image
        if any(one.ref.id == image.id and one.handle == image.handle for one in known):
            return image
        gone = f"driver {image.driver} does not have it any more"
        return dataclasses.replace(image, state=ImageState.BROKEN, problem=gone)

    def _labs(self, image: Image) -> tuple[str, ...]:
        return tuple(
            lab.name
            for lab in self._core.labs.all()
            if lab.spec.driver == image.driver and lab.spec.image == image.name
        )

    def ready(self, driver: str) -> tuple[str, ...]:
        """The names of the images that labs of a driver can be made from, the newest first."""
        return tuple(
            image.name
            for image in self.all()
            if image.driver == driver and image.state is ImageState.READY
        )

    def choose(self, driver: str, wanted: str | None) -> str | None:
        """The image that a new lab is made from: `wanted`, else the newest; None where the driver
        needs none. Raises NotFound and Conflict with what to do."""
        support = self._core.drivers.get(driver).capabilities().images
        if support is None or (wanted is None and not support.required):
            return None
        ready = self.ready(driver)
        if wanted is None and ready:
            return ready[0]
        build = f"labctl image build --driver {driver}"
        if wanted is None:
            raise Conflict(f"driver {driver!r} has no image to make servers from", build)
        if wanted not in ready:
            known = ", ".join(ready) or "none"
            raise NotFound(
                f"driver {driver!r} has no image {wanted!r} that is ready",
                f"ready: {known}; {build} --name {wanted} makes it",
            )
        return wanted


def _give_up() -> None:
    raise LabError(ENDED, "the same labctl image build begins again; a download is gone on with")


def _is(image: Image) -> str:
    return "is being built" if image.state is ImageState.BUILDING else "was built"
