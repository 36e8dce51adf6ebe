"""What servers are cloned from, as the server-manager tells it: `GET /api/v1/images`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from labcore.names import is_name


class ImageState(StrEnum):
    """How far an image is."""

    BUILDING = "building"
    READY = "ready"
    BROKEN = "broken"  # its build ended before it was ready; `problem` says why


class ImageStep(StrEnum):
    """What a build does, in this order; an import leaves boot, provision and seal out."""

    FETCH = "fetch"  # download or unpack, then compare the checksum
    CONVERT = "convert"  # into a disk of the back end; look whether it can boot here
    BOOT = "boot"  # until its SSH lets us in
    PROVISION = "provision"  # vagrant/provision/provision.sh
    SEAL = "seal"  # forget what must be each clone's own; power off
    SNAPSHOT = "snapshot"  # make it something to clone
    LIVE = "live"  # boot a clone of it and freeze that, if this was wished for


@dataclass(frozen=True)
class ImageWish:
    """The body of `PUT /api/v1/images/{driver}/{name}`: what to make an image from."""

    source: str | None = None  # a file, a URL, or a name of the back end's own; None: its default
    sha512: str | None = None  # of the file; needed for a URL that is not the default
    # How labctl gets in for the first time: "seed" = a NoCloud disk brings a one-time key, as
    # cloud images want it; "given" = somebody can log in already
    login: Literal["seed", "given"] = "seed"
    provision: bool = True  # False: `source` is provisioned and sealed already
    app_image: str | None = None  # a container archive, to be loaded into the image
    cpus: int = 2
    memory_mib: int = 1024
    live: bool = False  # servers of that size resume from memory, and do not boot


@dataclass(frozen=True)
class Image:
    """One image. The pair of driver and name is its own."""

    name: str
    driver: str
    id: str
    state: ImageState
    created_at: str
    wish: ImageWish
    run: int  # the seq of the event that began its last build
    source: str  # where it came from, in full
    step: ImageStep | None = None  # what is being done; where it stopped, if it is broken
    problem: str | None = None
    handle: str | None = None  # how its driver calls it, once it is ready
    sha512: str | None = None  # of what was fetched
    arch: str | None = None  # amd64 | arm64
    size_mib: int | None = None
    provision_digest: str | None = None  # of the scripts that made it what it is
    boot_s: float | None = None  # from power on to the first login, while it was built
    address: str | None = None  # "127.0.0.1:40022": SSH of the builder, while there is one
    labs: tuple[str, ...] = ()  # whose servers are made from it


def image_topic(driver: str, name: str) -> str:
    """Under which the events of an image are kept; no lab has such a name."""
    return f"image/{driver}/{name}"


def is_image_topic(text: str) -> bool:
    """Whether this is what `image_topic` gives for some image."""
    kind, *names = text.split("/")
    return kind == "image" and len(names) == 2 and all(map(is_name, names))
