"""Images for labs of guests, made once and known to every state directory of the tests."""

import json
import subprocess
from pathlib import Path

import pytest

from labcore.codec import decode
from labcore.wire.image import Image
from server_manager.database import Database
from server_manager.guest import provisioning
from server_manager.images.records import ImageRecords
from server_manager.paths import StatePaths
from tests.e2e.harness import Hands

SOURCE = "labguest"  # Debian 12 with systemd, as Incus or a contributor has it


def incus_image(home: Path, cache: pytest.Cache) -> Image:
    """An image of Incus as `labctl image build` makes it, of the provision scripts as they are.

    It is left for the next run of the tests.
    """
    name = f"e2e-{provisioning.digest()[:12]}"
    kept = cache.get(f"labctl/{name}", None)
    if kept is not None and kept["id"] in _published():
        return decode(Image, kept)
    hands = Hands(home, "incus")
    hands.do("image", "build", SOURCE, "--driver", "incus", "--name", name, limit_s=600)
    listed = json.loads(hands.do("image", "list", "-o", "json"))
    hands.do("server", "stop")
    image = next(one for one in listed["images"] if one["name"] == name)
    cache.set(f"labctl/{name}", image)
    return decode(Image, image)


def know(state: Path, image: Image) -> None:
    """Let the server-manager of a state directory know an image that is there."""
    paths = StatePaths(state)
    paths.make()
    database = Database(paths.database)
    ImageRecords(database).put(image)
    database.close()


def _published() -> set[str]:
    """The ids of the images of ours that Incus has."""
    argv = ["incus", "image", "list", "-f", "json"]
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return {one["properties"].get("labctl.id") for one in json.loads(listed.stdout or "[]")}


def skip_without_incus() -> None:
    """Skip where there is no Incus, or not the image that all begins with."""
    try:
        found = subprocess.run(
            ["incus", "image", "list", "-f", "json", SOURCE],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"incus does not answer: {error}")
    if found.returncode or not json.loads(found.stdout or "[]"):
        pytest.skip(f"incus has no image {SOURCE}: {found.stderr.strip()}")
