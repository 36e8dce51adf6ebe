"""How drivers make images: capability `images`, promised like all else in `drivers/base.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labcore.wire.lab import PowerState


@dataclass(frozen=True)
class ImageRef:
    """Which image. `id` is ours (a UUID made when it entered the registry) and decides."""

    name: str
    id: str


@dataclass(frozen=True)
class ImageBuild:
    """All that a driver needs to make an image."""

    ref: ImageRef
    directory: Path  # of this image alone; exists, and the driver may write there
    source: str  # the absolute path of a disk file, or a name of the back end's own
    cpus: int
    memory_mib: int
    provision: bool  # False: it is never booted, `finish_image` follows `prepare_image`
    seed: Path | None = None  # an ISO that a builder sees while it boots
    ssh_port: int = 0  # of 127.0.0.1, to lead to the builder's SSH; 0 where nobody logs in
    app_image: Path | None = None  # a container archive, for `provision_builder`


@dataclass(frozen=True)
class BuilderState:
    """What a driver says of a builder now."""

    state: PowerState
    problem: str | None = None
    console: tuple[str, ...] = ()  # the last lines it printed, oldest first
    waits: bool = False  # booted, for the seed that it has not


@dataclass(frozen=True)
class DriverImage:
    """What a driver says of one of its images."""

    ref: ImageRef
    handle: str | None  # None: half made
    arch: str | None = None  # amd64 | arm64
    size_mib: int | None = None
    clones: tuple[str, ...] = ()  # servers that were made from it and still need it


class Teller(Protocol):
    """Who wants to know how far a long call is. May raise Interrupted: somebody wants its end."""

    def progress(self, done: float, total: float) -> None:
        """So much of so much (MiB, or per cent) is done."""
        ...

    def line(self, text: str) -> None:
        """A line that a program of the call printed."""
        ...


class ImageMaking(Protocol):
    """Capability `images`: a builder is a server whose disk becomes an image.

    absent ── prepare_image ──▶ builder ── boot_builder … finish_image ──▶ image

    Every call is idempotent. A crash in `prepare_image` or `finish_image` leaves something half
    made, which the same call again, or `remove_image`, takes away.
    """

    def prepare_image(self, build: ImageBuild, teller: Teller) -> DriverImage:
        """Make a stopped builder from the source; what an earlier try left of it goes first.

        Raises Conflict if the image is finished; UsageProblem if the source cannot be used: it is
        no disk, cannot boot, is of another architecture than this machine.
        """
        ...

    def boot_builder(self, build: ImageBuild) -> None:
        """Begin booting. Running already: nothing. Raises NotFound if there is no builder."""
        ...

    def provision_builder(self, build: ImageBuild, archive: bytes, teller: Teller) -> None:
        """Only with `provisioned_by: driver`: wait for the running builder to be able to, unpack
        the tar archive in it, put `app_image` beside as `app-image.tar` if there is one, and run
        the archive's `build.sh` to its end, which leaves it sealed. Each line it prints is told.
        """
        ...

    def builder(self, ref: ImageRef) -> BuilderState:
        """Its state now; ABSENT if there is none (any more). Never raises for that."""
        ...

    def stop_builder(self, ref: ImageRef, *, force: bool = False) -> None:
        """Ask it to power off, or power it off by `force`. Absent or stopped: nothing."""
        ...

    def finish_image(self, ref: ImageRef) -> DriverImage:
        """Turn the stopped builder into an image, with its handle. Finished already: the same.

        Raises Conflict while the builder runs, NotFound if there is neither.
        """
        ...

    def remove_image(self, ref: ImageRef) -> None:
        """Remove an image or a builder with all its files, finished or not. Absent: nothing.

        Raises Conflict, naming them, while servers need it.
        """
        ...

    def images(self) -> tuple[DriverImage, ...]:
        """All images and builders that this back end knows of, ours by their marks."""
        ...


class LiveMaking(Protocol):
    """Capability `images.live`: servers of one size resume from memory, and do not boot.

    Between `boot_live` and `freeze_live` a machine runs that only `remove_image` or the next
    `boot_live` takes away.
    """

    def boot_live(self, build: ImageBuild) -> None:
        """Make a machine of a finished image, with the CPUs and memory of the build, and begin
        booting it without a seed; what an earlier try left of it goes first.

        Raises NotFound if there is no image, Conflict if it is not finished.
        """
        ...

    def live(self, ref: ImageRef) -> BuilderState:
        """How far it is; ABSENT if there is none. Never raises for that."""
        ...

    def freeze_live(self, ref: ImageRef) -> None:
        """Keep it as it is, for servers to be made from. Kept already: nothing.

        Raises Conflict unless it `waits`, NotFound if there is none.
        """
        ...
