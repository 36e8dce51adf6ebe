"""Which driver and which image a command means."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from labcore.errors import DriverUnusable, NotFound, UsageProblem
from labcore.names import is_name
from labcore.wire.image import Image
from labctl.session import Session
from labctl.wish import driver

PREFERRED = ("virtualbox", "incus")
DEFAULT_NAME = "debian-12"


def choose_driver(session: Session, wanted: str | None) -> tuple[str, bool]:
    """`wanted`, else the first that can be used here; and whether it makes images of disk files.

    Raises UsageProblem for a driver without images, DriverUnusable if there is none to choose.
    """
    reasons = []
    for name in PREFERRED if wanted is None else (wanted,):
        # One by one: a back end takes seconds to say that it is well.
        entry = driver(session, name) or {"ok": False, "reason": "this version has no such driver"}
        support = (entry.get("capabilities") or {}).get("images")
        if support and (entry["ok"] or wanted):
            return name, support["source"] == "disk"
        reasons.append(f"{name}: {entry.get('reason') or 'it uses no images'}")
    if wanted is not None:
        raise UsageProblem(f"no images are made for driver {reasons[0]}", "labctl doctor")
    raise DriverUnusable(
        "no driver that makes images can be used here", "labctl doctor", tuple(reasons)
    )


def name_for(source: str | None) -> str:
    """The name of an image that was given none: from that of its source."""
    if source is None:
        return DEFAULT_NAME
    path = urlsplit(source).path if "://" in source else source
    stem = PurePosixPath(path.replace("\\", "/").replace(":", "/")).name.lower()
    while (shorter := re.sub(r"\.(xz|gz|tar|raw|img|qcow2|vdi|vmdk|ova|box)$", "", stem)) != stem:
        stem = shorter
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:31].rstrip("-")
    if not is_name(name):
        raise UsageProblem(f"no name can be made of {source!r}", "--name NAME")
    return name


def find(images: tuple[Image, ...], name: str, driver: str | None) -> Image:
    """The one image of that name. Raises NotFound, or UsageProblem if several drivers have one."""
    found = [i for i in images if i.name == name and driver in (None, i.driver)]
    if not found:
        known = ", ".join(sorted({i.name for i in images})) or "none"
        raise NotFound(f"there is no image {name!r}", f"images: {known}")
    if len(found) > 1:
        having = ", ".join(i.driver for i in found)
        raise UsageProblem(f"several drivers have an image {name!r}", f"--driver: {having}")
    return found[0]
