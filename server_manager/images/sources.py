"""From what an image is made: a wish checked, and its source brought here as one disk file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from labcore.clock import Clock
from labcore.errors import LabError, UsageProblem
from labcore.wire.image import ImageWish
from server_manager.drivers.base import ImageSupport
from server_manager.drivers.imaging import Teller
from server_manager.images.cloud import SUMS, default_url, sum_in
from server_manager.images.download import check_url, download, fetch_text, sha512_of
from server_manager.images.unpack import Disk, format_of, unpack

_SHA512 = re.compile(r"[0-9a-f]{128}")
UNPACKED = "unpacked"


def check_wish(wish: ImageWish, support: ImageSupport) -> None:
    """Raise UsageProblem for a wish that cannot come true, before anything is begun."""
    if wish.sha512 is not None and not _SHA512.fullmatch(wish.sha512):
        raise UsageProblem("the SHA-512 must be 128 hexadecimal digits", "sha512sum FILE prints it")
    if wish.live and not (support.live and wish.provision):
        raise UsageProblem(
            "no live image can be made so", "--live is for `image build` with driver virtualbox"
        )
    if support.source == "name" or wish.source is None:
        if wish.sha512 is not None:
            raise UsageProblem("a SHA-512 goes with a file or a URL")
        return
    if is_url(wish.source):
        check_url(wish.source)
        if wish.sha512 is None:
            raise UsageProblem(f"{wish.source}: its SHA-512 is needed", "--sha512 DIGEST")
    elif not Path(wish.source).is_absolute():
        raise UsageProblem(f"{wish.source!r} is no absolute path")
    else:
        format_of(Path(wish.source))


def is_url(source: str) -> bool:
    """Whether a source is to be downloaded."""
    return "://" in source


def origin(wish: ImageWish, support: ImageSupport, arch: Callable[[], str]) -> str:
    """Where an image comes from, in full."""
    return wish.source or support.default or default_url(arch())


def bring(
    source: str, sha512: str | None, directory: Path, clock: Clock, teller: Teller
) -> tuple[Disk, str]:
    """The disk that `source` is or holds, in `directory` or where it lies; and its SHA-512.

    May be called again after any interruption. Raises LabError for a wrong checksum, and what
    `download` and `unpack` raise.
    """
    path = Path(source)
    if is_url(source):
        sha512 = sha512 or _published(source)
        path = directory / "download"
        download(source, path, sha512, clock, teller)
    elif sha512 is not None and (found := sha512_of(path)) != sha512:
        raise LabError(
            f"{source}: its SHA-512 is {found[:16]}…, not {sha512[:16]}… as it should be",
            "the file is not what --sha512 says",
        )
    digest = sha512 or sha512_of(path)
    if format_of(path) != "archive":
        return Disk(path), digest
    unpacked = directory / UNPACKED
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    return unpack(path, unpacked, teller), digest


def _published(url: str) -> str:
    found = sum_in(fetch_text(SUMS), url)
    if found is None:
        raise LabError(f"{SUMS} does not name {url}", "name a source: labctl image build FILE")
    return found
