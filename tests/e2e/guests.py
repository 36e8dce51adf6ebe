"""Images for labs of guests, made once and known to every state directory of the tests."""

import json
import subprocess
from pathlib import Path
from typing import Any

from labcore.codec import decode
from labcore.wire.image import Image, ImageState, ImageWish
from server_manager.database import Database
from server_manager.guest import provisioning
from server_manager.images.records import ImageRecords
from server_manager.paths import StatePaths
from tests.e2e.harness import Hands

SOURCE = "labguest"  # Debian 12 with systemd, as Incus or a contributor has it


def incus_image(home: Path) -> Image:
    """An image of Incus as `labctl image build` makes it, of the provision scripts as they are.

    It is left for the next run of the tests.
    """
    name = f"e2e-{provisioning.digest()[:12]}"
    kept = next((one for one in _published() if one["properties"]["labctl.image"] == name), None)
    if kept is not None:
        return Image(
            name=name,
            driver="incus",
            id=kept["properties"]["labctl.id"],
            state=ImageState.READY,
            created_at=kept["created_at"],
            wish=ImageWish(),
            run=0,
            source=SOURCE,
            handle=kept["aliases"][0]["name"],
        )
    hands = Hands(home, "incus")
    hands.do("image", "build", SOURCE, "--driver", "incus", "--name", name, limit_s=170)
    listed = json.loads(hands.do("image", "list", "-o", "json"))
    hands.do("server", "stop")
    return decode(Image, next(one for one in listed["images"] if one["name"] == name))


def know(state: Path, image: Image) -> None:
    """Let the server-manager of a state directory know an image that is there."""
    paths = StatePaths(state)
    paths.make()
    database = Database(paths.database)
    ImageRecords(database).put(image)
    database.close()


def _published() -> list[dict[str, Any]]:
    """The images of ours that Incus has."""
    argv = ["incus", "image", "list", "-f", "json"]
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    told: list[dict[str, Any]] = json.loads(listed.stdout or "[]")
    return [one for one in told if one["properties"].get("labctl.image") and one["aliases"]]


def why_no_incus() -> str:
    """Why there are no labs on Incus here; empty if there are."""
    argv = ["incus", "image", "list", "-f", "json", SOURCE]
    try:
        found = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"incus does not answer: {error}"
    if found.returncode or not json.loads(found.stdout or "[]"):
        return f"incus has no image {SOURCE}: {found.stderr.strip()}"
    return ""
